"""The names of statuses, emails, people and their actions on pages."""

from collections.abc import Iterable
from enum import StrEnum

from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus, Status
from smart_accounts.mail.refusals import Fault, fault_of
from smart_accounts.store.audit import Action, AuditEvent, Role
from smart_accounts.store.records import AccountState, StoredRequest
from smart_accounts.text import isolated

STATUS_LABELS: dict[Status | AccountState, str] = {
    Status.REQUESTED: "Requested",
    Status.IN_REVIEW: "In review",
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
    Status.IN_REVIEW: "waiting",
    Status.PENDING: "open",
    Status.ACTIVATING: "waiting",
    Status.ACTIVE: "good",
    Status.UNDELIVERABLE: "bad",
    Status.REJECTED: "bad",
}
STATUS_FILTERS = {
    status: label
    for status, label in STATUS_LABELS.items()
    if status in (Status.IN_REVIEW, Status.PENDING, AccountState.CLOSED) or Status(status).is_final
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
    EmailKind.REVIEW_NEEDED: "Notice to the operators",
    EmailKind.WEBHOOK_DISABLED: "Notice that a webhook endpoint was disabled",
    EmailKind.CLOSED: "Notice of the closing",
}


class Delivery(StrEnum):
    """What pages say about the delivery of an email."""

    WAITING = "waiting"
    DELAYED = "delayed"
    SENT = "sent"
    RETURNED = "returned"
    BOUNCED = "bounced"
    REFUSED = "refused"
    NOT_DELIVERED = "not delivered"

    @property
    def has_failed(self) -> bool:
        return self not in (Delivery.WAITING, Delivery.DELAYED, Delivery.SENT)


def delivery_of(email: EmailStatus) -> Delivery:
    """Return what to say about an email, without blaming an address that has no fault."""
    fault = fault_of(email.answer, email.recipient) if email.answer else None
    match email.state:
        case EmailState.QUEUED:
            return Delivery.DELAYED if fault is Fault.SENDER else Delivery.WAITING
        case EmailState.FAILED:
            is_about_address = fault in (Fault.RECIPIENT, None)
            return Delivery.REFUSED if is_about_address else Delivery.NOT_DELIVERED
        case EmailState.BOUNCED:
            return Delivery.BOUNCED
        case _:
            return Delivery.RETURNED if email.answer else Delivery.SENT


ROLE_LABELS = {Role.REQUESTER: "Requester", Role.OPERATOR: "Operator", Role.CUSTOMER: "Customer"}
ACTION_LABELS = {
    Action.SEND: "Sent the request",
    Action.ADOPT: "Became the owner of the request",
    Action.RESEND: "Sent the activation email again",
    Action.REPLACE_APPROVER: "Replaced the approver",
    Action.WITHDRAW: "Withdrew the request",
    Action.APPROVE: "Approved the request",
    Action.REJECT: "Rejected the request",
    Action.CLOSE: "Closed the account",
    Action.ACCEPT: "Accepted",
    Action.DECLINE: "Declined",
}
_DECISIONS = {
    Status.ACTIVE: Action.ACCEPT,
    Status.DECLINED: Action.DECLINE,
    Status.WITHDRAWN: Action.WITHDRAW,
    Status.REJECTED: Action.REJECT,
}
STATED = ", as stated by the client"
"""Follows who did something if no event of the audit trail proves it."""


def decided_by(request: StoredRequest, audit_trail: Iterable[AuditEvent]) -> str:
    """Return who made the decision, as a name or address that the requester knows.

    Any client of Temporal can state who decided. Only the audit trail proves it.
    """
    action = _DECISIONS.get(request.status)
    proof = next(
        (
            event
            for event in audit_trail
            if event.action == action
            and event.link_ordinal in (None, request.link_ordinal)
            and event.role in (Role.CUSTOMER, request.decided_by)
        ),
        None,
    )
    by = proof.role if proof else request.decided_by
    match by:
        case None | "customer":
            name = request.customer_email
        case "requester":
            name = f"{isolated(request.requester_name)}, {isolated(request.requester_company)}"
        case "operator":
            name = "an operator"
        case address:
            name = isolated(address)
    return name if proof or request.purged_at else name + STATED
