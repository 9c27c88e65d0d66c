"""A request's emails: which belong to each occasion, and one activity an occasion to send them."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, RetryState, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.emails import EmailActivities
    from smart_accounts.contract.messages import (
        Addressee,
        Email,
        EmailKind,
        EmailState,
        EmailStatus,
        SmartAccountRequest,
        Status,
    )
    from smart_accounts.contract.steps import EmailOutcome, SendEmails

EXPIRING_BEFORE = timedelta(days=7)
FIRST_EMAIL_RETRY = timedelta(seconds=1)
LONGEST_EMAIL_PAUSE = timedelta(minutes=10)

MAIL = workflow.ActivityConfig(
    # No end to the retries: the activity itself takes a refusal that lasts for days for good,
    # and an outage of our own mail server must cost nobody an email.
    start_to_close_timeout=timedelta(minutes=30),  # dozens of emails, 10 minutes for a slow one
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(
        initial_interval=FIRST_EMAIL_RETRY, maximum_interval=LONGEST_EMAIL_PAUSE
    ),
    # An email in flight is finished and counted, not torn.
    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)

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


def activation_email(ordinal: int) -> Email:
    return Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER, number=ordinal)


def opening_emails() -> tuple[Email, ...]:
    received = Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER)
    return (activation_email(1), received)


def closing_emails(status: Status, request: SmartAccountRequest) -> tuple[Email, ...]:
    users = range(1, len(request.added_users) + 1 if status == Status.ACTIVE else 1)
    return CLOSING_EMAILS[status] + tuple(
        Email(kind=EmailKind.ACCESS_GRANTED, to=Addressee.ADDED_USER, number=number)
        for number in users
    )


def reminders(request: SmartAccountRequest) -> list[tuple[timedelta, tuple[Email, ...]]]:
    """What falls due while nobody answers, as offsets from the start, soonest first.

    A window too short for an occasion has none of it.
    """
    due: dict[timedelta, tuple[Email, ...]] = {}
    for number, offset in enumerate(request.reminders, 1):
        due[offset] = (Email(kind=EmailKind.REMINDER, to=Addressee.CUSTOMER, number=number),)
    expiring = request.acceptance_window - EXPIRING_BEFORE
    due[expiring] = (
        *due.get(expiring, ()),
        Email(kind=EmailKind.EXPIRING, to=Addressee.REQUESTER),
    )
    window = request.acceptance_window
    return sorted((offset, mails) for offset, mails in due.items() if timedelta() < offset < window)


def merged(emails: Iterable[Email]) -> tuple[Email, ...]:
    """One email of a kind, the latest; none that repeats what an activation email says."""
    latest = {email.kind: email for email in emails}
    if EmailKind.ACTIVATION in latest:
        latest.pop(EmailKind.REMINDER, None)
    return tuple(latest.values())


async def send(
    occasion: SendEmails,
    settle: Callable[[Email, EmailOutcome], None],
    is_overtaken: Callable[[], bool] = lambda: False,
) -> tuple[Email, ...]:
    """Send one occasion's emails, as long as it takes; one that is refused holds back no other.

    Answers those that were still refused for now at ``occasion.until``, or when something else
    took the occasion's place: to be cancelled is not enough, since an activity that was in
    flight and came to its end swallows it.

    Raises:
        asyncio.CancelledError: once what was in flight has ended.
    """
    while True:
        outcomes = await _try(occasion)
        for email, outcome in zip(occasion.emails, outcomes, strict=True):
            settle(email, outcome)
        left = tuple(
            email
            for email, outcome in zip(occasion.emails, outcomes, strict=True)
            if outcome.state == EmailState.QUEUED
        )
        is_late = occasion.until is not None and workflow.now() >= occasion.until
        if not left or is_late or is_overtaken():
            return left
        occasion = occasion.model_copy(update={"emails": left})
        await workflow.sleep(FIRST_EMAIL_RETRY)


async def _try(occasion: SendEmails) -> list[EmailOutcome]:
    kinds = dict.fromkeys(email.kind for email in occasion.emails)
    try:
        return await workflow.execute_activity_method(
            EmailActivities.send_emails,
            occasion,
            **(MAIL | {"summary": "Email: " + ", ".join(kinds)}),
        )
    except ActivityError as error:
        # With its worker dead, a try that we cancelled ends by its time-out.
        if is_cancelled_exception(error) or error.retry_state == RetryState.CANCEL_REQUESTED:
            raise asyncio.CancelledError from None
        raise


class Mailing:
    """What became of a request's emails so far."""

    def __init__(self) -> None:
        self._emails: dict[Email, EmailStatus] = {}

    def statuses(self) -> tuple[EmailStatus, ...]:
        return tuple(self._emails.values())

    def refusal(self, email: Email) -> str | None:
        """Why an email did not arrive and never will."""
        status = self._emails.get(email)
        if status and status.state in (EmailState.FAILED, EmailState.BOUNCED):
            return status.answer or "The email was refused."
        return None

    async def send(
        self,
        occasion: SendEmails,
        request: SmartAccountRequest,
        is_overtaken: Callable[[], bool] = lambda: False,
    ) -> tuple[Email, ...]:
        """Send one occasion's emails; answers what had not left when it was late or overtaken."""
        recipients = {email: request.address_of(email) for email in occasion.emails}

        def note(email: Email, outcome: EmailOutcome) -> None:
            self._note(email, recipients[email], outcome)

        for email in occasion.emails:
            note(email, EmailOutcome(state=EmailState.QUEUED, at=workflow.now()))
        try:
            left = await send(occasion, note, is_overtaken)
        except asyncio.CancelledError:
            left = tuple(email for email in occasion.emails if self._is_queued(email))
        if is_overtaken():
            for email in left:
                del self._emails[email]
        return left

    def bounced(self, email: Email, answer: str) -> None:
        """An email came back; one that is unknown or settled otherwise changes nothing."""
        status = self._emails.get(email)
        if status and status.state in (EmailState.SENT, EmailState.QUEUED):
            outcome = EmailOutcome(state=EmailState.BOUNCED, at=workflow.now(), answer=answer)
            self._note(email, status.recipient, outcome)

    def _is_queued(self, email: Email) -> bool:
        status = self._emails.get(email)
        return status is not None and status.state == EmailState.QUEUED

    def _note(self, email: Email, recipient: str, outcome: EmailOutcome) -> None:
        known = self._emails.get(email)
        if outcome.state == EmailState.DROPPED:
            self._emails.pop(email, None)
        elif known is None or known.state != EmailState.BOUNCED:  # that may overtake the sending
            self._emails[email] = EmailStatus(
                kind=email.kind, recipient=recipient, **outcome.model_dump()
            )
