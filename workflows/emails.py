"""Which emails a request sends on which occasion."""

from collections.abc import Iterable
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.messages import EmailKind, SmartAccountRequest, Status
    from smart_accounts.contract.steps import Addressee, Email

EXPIRING_BEFORE = timedelta(days=7)

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


def activation_email(link: int) -> Email:
    """Return the activation email for the link with this ordinal."""
    return Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER, number=link)


def request_received(*, was_in_review: bool = False) -> Email:
    """Return the confirmation to the requester. After a review, it is a second email."""
    number = 2 if was_in_review else 1
    return Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER, number=number)


def opening_emails(*, was_in_review: bool = False) -> tuple[Email, ...]:
    return (activation_email(1), request_received(was_in_review=was_in_review))


def closing_emails(
    status: Status, request: SmartAccountRequest, *, customer_was_asked: bool
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


def account_closed_emails(added_users: int) -> tuple[Email, ...]:
    """Return the emails about the end of an account with so many added users."""
    people = (Addressee.CUSTOMER, Addressee.REQUESTER)
    return (
        *(Email(kind=EmailKind.CLOSED, to=person) for person in people),
        *(
            Email(kind=EmailKind.CLOSED, to=Addressee.ADDED_USER, number=number)
            for number in range(1, added_users + 1)
        ),
    )


def reminders(request: SmartAccountRequest) -> list[tuple[timedelta, tuple[Email, ...]]]:
    """Return the emails that remind of an open request, each with its offset from the start.

    The soonest comes first. Offsets outside the acceptance window are left out.
    """
    due: dict[timedelta, tuple[Email, ...]] = {}
    for number, offset in enumerate(request.reminders, 1):
        due[offset] = (Email(kind=EmailKind.REMINDER, to=Addressee.CUSTOMER, number=number),)
    window = request.acceptance_window
    expiring = Email(kind=EmailKind.EXPIRING, to=Addressee.REQUESTER)
    due[window - EXPIRING_BEFORE] = (*due.get(window - EXPIRING_BEFORE, ()), expiring)
    return sorted(
        (offset, emails) for offset, emails in due.items() if timedelta() < offset < window
    )


def latest_of_each_kind(emails: Iterable[Email]) -> tuple[Email, ...]:
    """Return the last email of each kind. An activation email makes a reminder superfluous."""
    latest = {email.kind: email for email in emails}
    if EmailKind.ACTIVATION in latest:
        latest.pop(EmailKind.REMINDER, None)
    return tuple(latest.values())
