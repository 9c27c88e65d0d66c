"""Names that other programs depend on. Changing one breaks callers and open requests."""

import re

from temporalio.common import SearchAttributeKey

TASK_QUEUE = "smart-account-requests"
WORKFLOW_TYPE = "SmartAccountRequestWorkflow"
# This type and the id in `remaining_emails_id` say "mails" where the code says "emails". Both are
# fixed names.
REMAINING_EMAILS_TYPE = "SmartAccountRemainingMailsWorkflow"
SWEEP_TYPE = "SmartAccountSweepWorkflow"
WEBHOOK_DELIVERY_TYPE = "SmartAccountWebhookDeliveryWorkflow"
SWEEP_ID = "smart-account-sweep"
"""The id of the schedule. The ids of its workflows are this id and the time."""

STATUS = SearchAttributeKey.for_keyword("SmartAccountStatus")
DOMAIN = SearchAttributeKey.for_keyword("SmartAccountDomain")
DEADLINE = SearchAttributeKey.for_datetime("SmartAccountDeadline")
SEARCH_ATTRIBUTES = {
    key.name: key.indexed_value_type.name.title() for key in (STATUS, DOMAIN, DEADLINE)
}
"""The name and the type of each search attribute, as the Temporal CLI writes them."""

IDEMPOTENCY_KEY = "idempotency_key"  # in the memo of a start that may be repeated
MAX_KEY = 64
# In the memo of a start by page or API: the requester's identity.
REQUESTER_ISSUER = "requester_issuer"
REQUESTER_SUBJECT = "requester_subject"
# In the memo of a start by which an operator restarts a request: the request's id.
RESTARTS = "restarts"
HOW_IT_ENDED = "how_it_ended"  # in the memo of the workflow that replaces an erased history
LINK = "link"
"""In the memo once a new link is issued: the ordinal of the newest link."""

WORKFLOW_ID = re.compile(r"smart-account-[a-z0-9.-]{1,253}")
"""What `workflow_id` returns for any domain."""

API_SCOPE = "smart-accounts"
"""The scope that an access token needs for the HTTP API."""

INVALID_REQUEST = "InvalidRequest"
ACTION_REFUSED = "ActionRefused"


def workflow_id(account_domain: str) -> str:
    """Return the workflow id for a normalised domain. Every request for the domain has it."""
    return f"smart-account-{account_domain}"


def remaining_emails_id(request_id: str) -> str:
    """Return the id of the workflow that sends the emails left over after a request."""
    return f"smart-account-mails-{request_id}"


def closing_id(request_id: str) -> str:
    """Return the id of the workflow that closes the account of a request."""
    return f"smart-account-closed-{request_id}"


def erased_id(request_id: str) -> str:
    """Return the id of the workflow that replaces the erased history of a request."""
    return f"smart-account-erased-{request_id}"


def webhook_delivery_id(endpoint_id: str) -> str:
    """Return the id of the workflow that delivers to a webhook endpoint."""
    return f"smart-account-webhook-{endpoint_id}"
