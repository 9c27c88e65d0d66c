"""Which emails a request sends on which occasion."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.messages import EmailKind, SmartAccountRequest
    from smart_accounts.contract.steps import Addressee, Email

EXPIRING_BEFORE = timedelta(days=7)


def activation_email(link: int) -> Email:
    """Return the activation email for the link with this ordinal."""
    return Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER, number=link)


def request_received(*, was_in_review: bool = False) -> Email:
    """Return the confirmation to the requester. After a review, it is a second email."""
    number = 2 if was_in_review else 1
    return Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER, number=number)


def opening_emails(*, was_in_review: bool = False) -> tuple[Email, ...]:
    return (activation_email(1), request_received(was_in_review=was_in_review))


def emails_after_restart(
    link: int, overdue: Sequence[tuple[Email, ...]], *, was_in_review: bool
) -> tuple[Email, ...]:
    """Return the emails that a restarted request may owe. The ledger knows those that were sent."""
    return (
        activation_email(link),
        request_received(was_in_review=was_in_review),
        *latest_of_each_kind(email for emails in overdue for email in emails),
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
