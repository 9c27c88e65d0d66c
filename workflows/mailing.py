"""Send the emails of a request, and keep the status of each."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, RetryState, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.emails import EmailActivities
    from smart_accounts.contract.messages import CLOSING_TIME, EmailState, EmailStatus
    from smart_accounts.contract.steps import Email, EmailOutcome, SendEmails
    from workflows.emails import latest_of_each_kind

FIRST_RETRY = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=10)
LOCAL_OPTIONS = workflow.LocalActivityConfig(
    start_to_close_timeout=timedelta(seconds=30),  # it ends after LOCAL_TIME by itself
    retry_policy=RetryPolicy(maximum_attempts=1),
    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)
# The run's last try can come one pause later, which is still within CLOSING_TIME.
HAND_OVER_AFTER = CLOSING_TIME - LONGEST_PAUSE

EMAIL_OPTIONS = workflow.ActivityConfig(
    # The retries have no end, because an outage of our mail server must not lose an email. The
    # activity itself gives up an email that was refused for days.
    start_to_close_timeout=timedelta(minutes=30),  # dozens of emails, 10 minutes for a slow one
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(initial_interval=FIRST_RETRY, maximum_interval=LONGEST_PAUSE),
    # Wait for an email in flight, so that its outcome is known.
    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)


async def send(
    batch: SendEmails,
    on_outcome: Callable[[Email, EmailOutcome], None],
    is_interrupted: Callable[[], bool] = lambda: False,
    *,
    first_locally: bool = False,
) -> tuple[Email, ...]:
    """Send a batch of emails, however long it takes. A refused email does not delay the others.

    With ``first_locally``, the first try is a local activity, which adds only one event.

    Returns the emails that are still refused temporarily at ``batch.until`` or at an interruption.
    To interrupt, let ``is_interrupted`` return True and cancel. Cancelling alone is not enough: if
    the activity ends just as it is cancelled, no CancelledError is raised.

    Raises:
        asyncio.CancelledError: The sending was cancelled, and no email is in flight any more.
    """
    while True:
        outcomes = await (_try_locally(batch) if first_locally else _try_each(batch))
        for email, outcome in zip(batch.emails, outcomes, strict=True):
            on_outcome(email, outcome)
        unsent = tuple(
            email
            for email, outcome in zip(batch.emails, outcomes, strict=True)
            if outcome.state == EmailState.QUEUED
        )
        is_late = batch.until is not None and workflow.now() >= batch.until
        if not unsent or is_late or is_interrupted():
            return unsent
        batch = batch.model_copy(update={"emails": unsent})
        if not first_locally:
            await workflow.sleep(FIRST_RETRY)
        first_locally = False


async def _try_locally(batch: SendEmails) -> list[EmailOutcome]:
    try:
        return await workflow.execute_local_activity_method(
            EmailActivities.try_emails,
            batch.model_copy(update={"now": workflow.now()}),
            **(LOCAL_OPTIONS | {"summary": _summary(batch)}),
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise asyncio.CancelledError from None
        return [EmailOutcome(state=EmailState.QUEUED, at=workflow.now())] * len(batch.emails)


def _summary(batch: SendEmails) -> str:
    return "Email: " + ", ".join(dict.fromkeys(email.kind for email in batch.emails))


async def _try_each(batch: SendEmails) -> list[EmailOutcome]:
    try:
        return await workflow.execute_activity_method(
            EmailActivities.send_emails,
            batch,
            **(EMAIL_OPTIONS | {"summary": _summary(batch)}),
        )
    except ActivityError as error:
        # If the worker is dead, a cancelled activity ends with a timeout.
        if is_cancelled_exception(error) or error.retry_state == RetryState.CANCEL_REQUESTED:
            raise asyncio.CancelledError from None
        raise


class Mailing:
    """The emails of one request: those that are due, and the status of each."""

    def __init__(self, recipient_of: Callable[[Email], str]) -> None:
        self._recipient_of = recipient_of
        self._due: tuple[Email, ...] = ()
        self._statuses: dict[Email, EmailStatus] = {}
        self.first_locally = False
        """True if each occasion's emails are first tried in a local activity."""

    def statuses(self) -> tuple[EmailStatus, ...]:
        return tuple(self._statuses.values())

    def failure(self, email: Email) -> str | None:
        """Return why an email did not arrive, or ``None`` if it may still arrive."""
        status = self._statuses.get(email)
        if status and status.state in (EmailState.FAILED, EmailState.BOUNCED):
            return status.answer or "The email was refused."
        return None

    def add(self, *emails: Email) -> None:
        """Add emails that are due now."""
        self._due += emails

    async def send_due_emails_until(self, is_decided: Callable[[], bool], request_id: str) -> None:
        """Send the emails that are due, until the request is decided.

        A new email interrupts the sending. It goes out in one batch with those still unsent.
        """

        def is_interrupted() -> bool:
            return is_decided() or bool(self._due)

        while not is_decided():
            batch = SendEmails(request_id=request_id, emails=self._due)
            self._due = ()
            sending = asyncio.create_task(
                self._send(batch, self._recipients(batch), is_interrupted)
            )
            await workflow.wait_condition(is_interrupted)
            sending.cancel()  # what an unsent email says may no longer be true
            await workflow.wait([sending])
            self._due = latest_of_each_kind((*sending.result(), *self._due))

    async def send(self, batch: SendEmails) -> tuple[Email, ...]:
        """Send a batch of emails. Returns those still unsent at ``batch.until``."""
        return await self._send(batch, self._recipients(batch), lambda: False)

    async def _send(
        self,
        batch: SendEmails,
        recipients: dict[Email, str],
        is_interrupted: Callable[[], bool],
    ) -> tuple[Email, ...]:
        def update_status(email: Email, outcome: EmailOutcome) -> None:
            self._update_status(email, recipients[email], outcome)

        for email in batch.emails:
            update_status(email, EmailOutcome(state=EmailState.QUEUED, at=workflow.now()))
        try:
            unsent = await send(
                batch, update_status, is_interrupted, first_locally=self.first_locally
            )
        except asyncio.CancelledError:
            unsent = tuple(email for email in batch.emails if self._is_queued(email))
        if is_interrupted():
            for email in unsent:
                del self._statuses[email]
        return unsent

    def record_bounce(self, email: Email, reply: str) -> None:
        """Record that an email bounced. Ignore an unknown one and one that failed before."""
        status = self._statuses.get(email)
        if status and status.state in (EmailState.SENT, EmailState.QUEUED):
            outcome = EmailOutcome(state=EmailState.BOUNCED, at=workflow.now(), answer=reply)
            self._update_status(email, status.recipient, outcome)

    def _recipients(self, batch: SendEmails) -> dict[Email, str]:
        return {email: self._recipient_of(email) for email in batch.emails}

    def _is_queued(self, email: Email) -> bool:
        status = self._statuses.get(email)
        return status is not None and status.state == EmailState.QUEUED

    def _update_status(self, email: Email, recipient: str, outcome: EmailOutcome) -> None:
        known = self._statuses.get(email)
        if outcome.state == EmailState.DROPPED:
            self._statuses.pop(email, None)
        # A bounce can arrive before the outcome of its sending, and then counts.
        elif known is None or known.state != EmailState.BOUNCED:
            self._statuses[email] = EmailStatus(
                kind=email.kind, recipient=recipient, **outcome.model_dump()
            )
