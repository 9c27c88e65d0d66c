"""Statuses and emails in the words of the pages."""

from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.store.records import StoredRequest
from smart_accounts.web.activation import answer_of

STATUSES = {
    Status.REQUESTED: "Requested",
    Status.PENDING: "Pending",
    Status.ACTIVATING: "Being activated",
    Status.ACTIVE: "Active",
    Status.LAPSED: "Lapsed",
    Status.DECLINED: "Declined",
    Status.WITHDRAWN: "Withdrawn",
    Status.UNDELIVERABLE: "Undeliverable",
    Status.REJECTED: "Refused",
}
TONES = {
    Status.REQUESTED: "open",
    Status.PENDING: "open",
    Status.ACTIVATING: "waiting",
    Status.ACTIVE: "good",
    Status.UNDELIVERABLE: "bad",
    Status.REJECTED: "bad",
}
FILTERS = {
    status: words
    for status, words in STATUSES.items()
    if status in {Status.PENDING, *(each for each in Status if each.is_final)}
}
"""What a stored request can be."""

EMAIL_LABELS = {
    EmailKind.ACTIVATION: "Activation email",
    EmailKind.REQUEST_RECEIVED: "Confirmation of your request",
    EmailKind.REMINDER: "Reminder",
    EmailKind.EXPIRING: "Notice that nobody has answered",
    EmailKind.ACTIVATED: "Confirmation of the activation",
    EmailKind.WELCOME: "Welcome email",
    EmailKind.ACCESS_GRANTED: "Email about the access",
    EmailKind.LAPSED: "Notice of the lapse",
    EmailKind.DECLINED: "Notice of the decline",
    EmailKind.WITHDRAWN: "Notice of the withdrawal",
    EmailKind.UNDELIVERABLE: "Notice that it was undeliverable",
    EmailKind.REJECTED: "Notice of the refusal",
}
DELIVERY = {
    EmailState.QUEUED: "waiting",
    EmailState.SENT: "sent",
    EmailState.BOUNCED: "came back",
    EmailState.FAILED: "refused",
}


def shown_status(request: StoredRequest) -> Status:
    """The status, with an answer that Temporal has and the store has not yet."""
    answer = None if request.status.is_final else answer_of(request)
    return Status.ACTIVATING if answer == "accepted" else request.status


def decided_by(request: StoredRequest) -> str:
    """Who made the decision, as the requester knows them."""
    match request.decided_by:
        case None | "customer":
            return request.customer_email
        case "requester":
            return f"{request.requester_name}, {request.requester_company}"
        case "operator":
            return "our operators"
        case address:
            return address
