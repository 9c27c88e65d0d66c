"""The emails about the end of a request."""

from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.steps import Addressee, Email, RequestAddresses

CLOSING_EMAILS = {
    Status.ACTIVE: (
        Email(kind=EmailKind.ACTIVATED, to=Addressee.REQUESTER),
        Email(kind=EmailKind.WELCOME, to=Addressee.CUSTOMER),
    ),
    Status.DECLINED: (Email(kind=EmailKind.DECLINED, to=Addressee.REQUESTER),),
    Status.WITHDRAWN: (Email(kind=EmailKind.WITHDRAWN, to=Addressee.CUSTOMER),),
    Status.UNDELIVERABLE: (Email(kind=EmailKind.UNDELIVERABLE, to=Addressee.REQUESTER),),
    Status.REJECTED: (Email(kind=EmailKind.REJECTED, to=Addressee.REQUESTER),),
    Status.LAPSED: (
        Email(kind=EmailKind.LAPSED, to=Addressee.CUSTOMER),
        Email(kind=EmailKind.LAPSED, to=Addressee.REQUESTER),
    ),
}


def closing_emails(
    status: Status, request: RequestAddresses, *, customer_was_asked: bool
) -> tuple[Email, ...]:
    """Return the emails about the end of a request."""
    if not customer_was_asked:
        return tuple(each for each in CLOSING_EMAILS[status] if each.to == Addressee.REQUESTER)
    if status != Status.ACTIVE:
        return CLOSING_EMAILS[status]
    return CLOSING_EMAILS[status] + tuple(
        Email(kind=EmailKind.ACCESS_GRANTED, to=Addressee.ADDED_USER, number=number)
        for number in range(1, len(request.added_users) + 1)
    )
