"""The names of statuses and emails on pages."""

from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.store.records import AccountState, StoredRequest

STATUS_LABELS: dict[Status | AccountState, str] = {
    Status.REQUESTED: "Requested",
    Status.PENDING: "Pending",
    Status.ACTIVATING: "Being activated",
    Status.ACTIVE: "Active",
    Status.LAPSED: "Lapsed",
    Status.DECLINED: "Declined",
    Status.WITHDRAWN: "Withdrawn",
    Status.UNDELIVERABLE: "Undeliverable",
    Status.REJECTED: "Rejected",
    AccountState.CLOSED: "Account closed",
}
STATUS_TONES = {
    Status.REQUESTED: "open",
    Status.PENDING: "open",
    Status.ACTIVATING: "waiting",
    Status.ACTIVE: "good",
    Status.UNDELIVERABLE: "bad",
    Status.REJECTED: "bad",
}
STATUS_FILTERS = {
    status: label
    for status, label in STATUS_LABELS.items()
    if status in (Status.PENDING, AccountState.CLOSED) or Status(status).is_final
}
"""What the list can be searched for: statuses that the store can hold, and closed accounts."""

EMAIL_LABELS = {
    EmailKind.ACTIVATION: "Activation email",
    EmailKind.REQUEST_RECEIVED: "Confirmation of your request",
    EmailKind.REMINDER: "Reminder",
    EmailKind.EXPIRING: "Notice that there is no answer yet",
    EmailKind.ACTIVATED: "Confirmation of the activation",
    EmailKind.WELCOME: "Welcome email",
    EmailKind.ACCESS_GRANTED: "Notice of access",
    EmailKind.LAPSED: "Notice that the request lapsed",
    EmailKind.DECLINED: "Notice that the customer declined",
    EmailKind.WITHDRAWN: "Notice of the withdrawal",
    EmailKind.UNDELIVERABLE: "Notice that the email was undeliverable",
    EmailKind.REJECTED: "Notice that the request was rejected",
    EmailKind.CLOSED: "Notice of the closing",
}
DELIVERY_LABELS = {
    EmailState.QUEUED: "waiting",
    EmailState.SENT: "sent",
    EmailState.BOUNCED: "bounced",
    EmailState.FAILED: "refused",
}


def decided_by(request: StoredRequest) -> str:
    """Return who made the decision, as a name or address that the requester knows."""
    match request.decided_by:
        case None | "customer":
            return request.customer_email
        case "requester":
            return f"{request.requester_name}, {request.requester_company}"
        case "operator":
            return "an operator"
        case address:
            return address
