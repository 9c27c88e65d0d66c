"""Names that other programs depend on. Changing one breaks callers and open requests."""

TASK_QUEUE = "smart-account-requests"
WORKFLOW_TYPE = "SmartAccountRequestWorkflow"
REMAINING_EMAILS_TYPE = "SmartAccountRemainingMailsWorkflow"
STATUS_ATTRIBUTE = "SmartAccountStatus"
DOMAIN_ATTRIBUTE = "SmartAccountDomain"
DEADLINE_ATTRIBUTE = "SmartAccountDeadline"
SEARCH_ATTRIBUTES = {
    STATUS_ATTRIBUTE: "Keyword",
    DOMAIN_ATTRIBUTE: "Keyword",
    DEADLINE_ATTRIBUTE: "Datetime",
}
IDEMPOTENCY_KEY = "idempotency_key"  # in the memo of a start that may be repeated
MAX_KEY = 64
INVALID_REQUEST = "InvalidRequest"
ACTION_REFUSED = "ActionRefused"


def workflow_id(account_domain: str) -> str:
    """The workflow id of the request for a normalised domain; it is the same for every try."""
    return f"smart-account-{account_domain}"
