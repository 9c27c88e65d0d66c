"""Send the emails of one occasion: concurrently, so that no recipient delays another."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.delivery import Clock, Delivery, repeatedly
from smart_accounts.contract.messages import EmailState
from smart_accounts.contract.steps import EmailOutcome, SendEmails
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.mail.smtp import MailError, SenderMisconfigured, SenderRefused, Unreachable

# A local activity keeps decisions and queries waiting, so it must be short.
LOCAL_TIME = timedelta(seconds=3)
MAX_LOCAL_EMAILS = 5
LOCAL_PAUSE = timedelta(minutes=1)  # after the mail server was down or slow
MISCONFIGURED_RETRY = timedelta(minutes=10)


class EmailActivities:
    def __init__(self, delivery: Delivery, *, only_through_queue: bool = False) -> None:
        self._delivery = delivery
        self._only_through_queue = only_through_queue
        self._no_local_try_before = 0.0

    @activity.defn
    async def try_emails(self, batch: SendEmails) -> list[EmailOutcome]:
        """Try to send each email, for three seconds at most. Returns the outcomes in order.

        An email that could not be sent yet has the outcome ``queued``. An email that is still
        being sent has it too: this process finishes it, and ``send_emails`` waits for that.
        """
        clock = temporal_clock(batch.now)
        if (
            self._only_through_queue
            or time.monotonic() < self._no_local_try_before
            or len(batch.emails) > MAX_LOCAL_EMAILS
        ):
            return [EmailOutcome(state=EmailState.QUEUED, at=clock())] * len(batch.emails)
        attempts = [
            _start(self._delivery.attempt(batch.request_id, email, clock)) for email in batch.emails
        ]
        await asyncio.wait(attempts, timeout=LOCAL_TIME.total_seconds())
        for waiting in {*attempts} - self._delivery.under_way:
            waiting.cancel()  # ``send_emails`` tries it
        outcomes, errors = _split([_result_so_far(each) for each in attempts], clock())
        if any(map(_is_outage, errors)):
            self._no_local_try_before = time.monotonic() + LOCAL_PAUSE.total_seconds()
        return outcomes

    async def finish(self, within: timedelta) -> None:
        """Wait for the emails that outlive their activity. Call this after the worker's end."""
        if self._delivery.under_way:
            await asyncio.wait(self._delivery.under_way, timeout=within.total_seconds())

    @activity.defn
    async def send_emails(self, batch: SendEmails) -> list[EmailOutcome]:
        """Try to send each email once. Returns the outcomes in the same order.

        An email that could not be sent yet has the outcome ``queued``. If that is true of all of
        them, the activity fails instead, so that Temporal retries it with a growing interval.

        Raises:
            ApplicationError: no email could be sent yet, and ``batch.until`` has not passed.
        """
        clock = temporal_clock()
        async with heartbeats():
            results = await _gather(
                self._delivery.attempt(batch.request_id, email, clock) for email in batch.emails
            )
        outcomes, errors = _split(results, clock())
        is_late = batch.until is not None and clock() >= batch.until
        if errors and not is_late and all(each.state == EmailState.QUEUED for each in outcomes):
            raise _retry_later(errors, clock(), batch.until)
        return outcomes


def _start(attempt: Coroutine[Any, Any, EmailOutcome]) -> asyncio.Task[EmailOutcome]:
    task = asyncio.create_task(attempt)
    task.add_done_callback(_read_error)
    return task


def _read_error(attempt: asyncio.Task[EmailOutcome]) -> None:
    """Read an error that nobody waits for. asyncio would log it with the mail server's reply.

    ``send_emails`` tries the email again, and reports what fails then.
    """
    if not attempt.cancelled():
        attempt.exception()


def temporal_clock(now: datetime | None = None) -> Clock:
    """Return Temporal's clock, because its times are shown beside those of the workflow."""
    started_at, start = now or activity.info().started_time, time.monotonic()
    return lambda: started_at + timedelta(seconds=time.monotonic() - start)


async def _gather(
    attempts: Iterable[Coroutine[Any, Any, EmailOutcome]],
) -> list[EmailOutcome | BaseException]:
    """Run all attempts.

    If the workflow cancels the activity, or an operator resets or pauses it, the emails that are
    being sent are finished. Otherwise they would be sent a second time.
    """
    work = asyncio.gather(*attempts, return_exceptions=True)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if not details or not (details.cancel_requested or details.reset or details.paused):
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            raise
        return await work


def _split(
    results: list[EmailOutcome | BaseException], now: datetime
) -> tuple[list[EmailOutcome], list[BaseException]]:
    """Return one outcome per email, ``queued`` for an error, and the errors."""
    queued = EmailOutcome(state=EmailState.QUEUED, at=now)
    outcomes = [queued if isinstance(result, BaseException) else result for result in results]
    return outcomes, [result for result in results if isinstance(result, BaseException)]


def _retry_later(
    errors: list[BaseException], now: datetime, until: datetime | None
) -> BaseException:
    """Return the error that operators see. It has no server reply, which may name an address."""
    limited = [error.retry_at for error in errors if isinstance(error, Rejected) and error.retry_at]
    if len(limited) == len(errors):  # otherwise another email can be sent sooner
        retry_at = min(*limited, until or limited[0])
        return ApplicationError(
            "The requester's limit of emails is reached. They are sent later.",
            type="EmailLimitReached",
            next_retry_delay=max(retry_at - now, timedelta(seconds=1)),
        )
    for error in errors:
        if isinstance(error, SenderMisconfigured):
            return ApplicationError(
                "The mail server does not accept our account or address. Check the SMTP settings.",
                type="SenderMisconfigured",
                next_retry_delay=MISCONFIGURED_RETRY,
                category=ApplicationErrorCategory.BENIGN,  # `_alert` has logged it
            )
    if any(isinstance(error, Unreachable) for error in errors):
        return ApplicationError(
            "The mail server takes no emails from us at the moment. They will be sent again later.",
            type="MailServerUnreachable",
        )
    if all(isinstance(error, (MailError, Rejected)) for error in errors):
        return ApplicationError(
            "The mail server does not take the email at the moment. It will be sent again later.",
            type="RefusedTemporarily",
        )
    return next(error for error in errors if not isinstance(error, (MailError, Rejected)))


def _result_so_far(attempt: asyncio.Task[EmailOutcome]) -> EmailOutcome | BaseException:
    if not attempt.done() or attempt.cancelled():
        return TimeoutError()
    return attempt.exception() or attempt.result()


def _is_outage(error: BaseException) -> bool:
    """Return True if other emails would fail in the same way, or take as long."""
    if isinstance(error, SenderRefused):
        return False
    return isinstance(error, Unreachable | SenderMisconfigured | Unavailable | TimeoutError)


@asynccontextmanager
async def heartbeats() -> AsyncIterator[None]:
    """Send heartbeats, so that another worker takes over within seconds if this one dies."""

    async def beat() -> None:
        activity.heartbeat()

    async with repeatedly(beat):
        yield
