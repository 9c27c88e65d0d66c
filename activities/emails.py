"""Send emails: each at least once, concurrently, and never again after a final outcome is recorded.

A crash before that sends one more copy with the same Message-ID.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities import measurements
from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus
from smart_accounts.contract.steps import Addressee, Email, EmailOutcome, SendEmails
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.mail.bounces import return_path
from smart_accounts.mail.compose import Composer
from smart_accounts.mail.refusals import NOT_ACCEPTED, codes_of
from smart_accounts.mail.smtp import (
    MailError,
    RefusedPermanently,
    RefusedTemporarily,
    SenderMisconfigured,
    SenderRefused,
    SmtpSender,
    Unreachable,
)
from smart_accounts.store.emails import BeingSent
from smart_accounts.store.limits import Limits
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.metrics import REFUSED_BECAUSE_OF_SENDER
from smart_accounts.tokens import LinkTokens, token_hash

HEARTBEAT_EVERY = timedelta(seconds=3)
LEASE_CHECK = timedelta(seconds=0.5)
# A local activity keeps decisions and queries waiting, so it must be short.
LOCAL_TIME = timedelta(seconds=3)
MAX_LOCAL_EMAILS = 5
LOCAL_PAUSE = timedelta(minutes=1)  # after the mail server was down or slow
MISCONFIGURED_RETRY = timedelta(minutes=10)
GIVE_UP_AFTER = timedelta(days=5)  # mail servers keep trying as long (RFC 5321 §4.5.4.1)
WITH_LINK = {EmailKind.ACTIVATION, EmailKind.REMINDER}

Clock = Callable[[], datetime]

_log = logging.getLogger(__name__)


class EmailActivities:
    def __init__(
        self,
        store: AccountStore,
        composer: Composer,
        sender: SmtpSender,
        tokens: LinkTokens,
        base_url: str,
        bounce_domain: str | None,
        limits: Limits,
        *,
        only_through_queue: bool = False,
    ) -> None:
        self._store = store
        self._composer = composer
        self._sender = sender
        self._tokens = tokens
        self._base_url = base_url
        self._bounce_domain = bounce_domain
        self._limits = limits
        self._only_through_queue = only_through_queue
        self._next_alert = 0.0
        self._no_local_try_before = 0.0
        self._unfinished: set[asyncio.Task[EmailOutcome]] = set()

    @activity.defn
    async def try_emails(self, batch: SendEmails) -> list[EmailOutcome]:
        """Try to send each email, for three seconds at most. Returns the outcomes in order.

        An email that could not be sent yet has the outcome ``queued``. An email that is still
        being sent has it too: this process finishes it, and ``send_emails`` waits for that.
        """
        clock = _clock(batch.now)
        attempts: list[asyncio.Task[EmailOutcome]] = []
        is_allowed = (
            not self._only_through_queue
            and time.monotonic() >= self._no_local_try_before
            and len(batch.emails) <= MAX_LOCAL_EMAILS
        )
        if is_allowed:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOCAL_TIME.total_seconds()):
                    request = await self._store.requests.find(batch.request_id)
                    if request:
                        attempts = [
                            self._start(self._attempt(request, email, clock))
                            for email in batch.emails
                        ]
                        await asyncio.wait(attempts)
        if not attempts:
            return [EmailOutcome(state=EmailState.QUEUED, at=clock())] * len(batch.emails)
        outcomes, errors = _split([_result_so_far(each) for each in attempts], clock())
        if any(map(_is_outage, errors)):
            self._no_local_try_before = time.monotonic() + LOCAL_PAUSE.total_seconds()
        return outcomes

    def _start(self, attempt: Coroutine[Any, Any, EmailOutcome]) -> asyncio.Task[EmailOutcome]:
        task = asyncio.create_task(attempt)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return task

    async def finish(self, within: timedelta) -> None:
        """Wait for the emails that outlive their activity. Call this after the worker's end."""
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=within.total_seconds())

    @activity.defn
    async def send_emails(self, batch: SendEmails) -> list[EmailOutcome]:
        """Try to send each email once. Returns the outcomes in the same order.

        An email that could not be sent yet has the outcome ``queued``. If that is true of all of
        them, the activity fails instead, so that Temporal retries it with a growing interval.

        Raises:
            ApplicationError: no email could be sent yet, and ``batch.until`` has not passed.
        """
        request = await self._store.requests.find(batch.request_id)
        if request is None:
            raise ApplicationError("The store does not know this request yet.")
        clock = _clock()
        async with _heartbeats():
            results = await _gather(self._attempt(request, email, clock) for email in batch.emails)
        outcomes, errors = _split(results, clock())
        is_late = batch.until is not None and clock() >= batch.until
        if errors and not is_late and all(each.state == EmailState.QUEUED for each in outcomes):
            raise _retry_later(errors, clock(), batch.until)
        return outcomes

    async def _attempt(self, request: StoredRequest, email: Email, clock: Clock) -> EmailOutcome:
        earlier = await self._begin(request, email, clock)
        if earlier and earlier.state != EmailState.QUEUED:
            return earlier
        link = await self._link(request) if email.kind in WITH_LINK else None
        message = self._composer.compose(
            email,
            request,
            link,
            now=clock(),
            undelivered=await self._undelivered(request, email),
        )
        try:
            async with self._lease_renewed(request.id, email, clock):
                await self._sender.send(message, self._return_path(message))
        except MailError as error:
            to = email.address_in(request)
            outcome = await self._outcome_of(error, to, earlier, clock())
            await self._record(request, email, outcome)
            measurements.email_not_sent(email.kind, error, outcome)
            if outcome.state == EmailState.QUEUED:
                raise
            return outcome
        sent = EmailOutcome(state=EmailState.SENT, at=clock())
        await self._record(request, email, sent)
        measurements.email_sent(email, request, sent.at)
        return sent

    async def _begin(
        self, request: StoredRequest, email: Email, clock: Clock
    ) -> EmailOutcome | None:
        """Take the lease of an email. Wait while another attempt has it, here or elsewhere.

        Returns the outcome that counts if there is one.

        Raises:
            asyncio.CancelledError: the activity was cancelled while this waited. What the email
                says may no longer be true, so it must not be sent.
        """
        own_id = self._composer.message_id(email, request.id)
        has_waited = False
        while True:
            try:
                earlier = await self._store.emails.begin(
                    request,
                    email,
                    own_id,
                    self._tokens.return_token(own_id),
                    now=clock(),
                    limits=self._limits,
                )
            except BeingSent:
                has_waited = True
                await asyncio.sleep(LEASE_CHECK.total_seconds())
                continue
            is_unsent = earlier is None or earlier.state == EmailState.QUEUED
            if has_waited and is_unsent and activity.is_cancelled():
                raise asyncio.CancelledError
            return earlier

    @asynccontextmanager
    async def _lease_renewed(
        self, request_id: str, email: Email, clock: Clock
    ) -> AsyncIterator[None]:
        async def renew() -> None:
            with suppress(Unavailable):
                await self._store.emails.renew(request_id, email, clock())

        async with _repeatedly(renew):
            yield

    async def _outcome_of(
        self, error: MailError, to: str, earlier: EmailOutcome | None, now: datetime
    ) -> EmailOutcome:
        """Return the outcome of a failed attempt.

        For a queued email, ``at`` is the time when its five days of refusals began.
        """
        if isinstance(error, SenderMisconfigured):
            self._alert(error)
        if isinstance(error, RefusedPermanently):
            return EmailOutcome(state=EmailState.FAILED, at=now, answer=error.reply)
        if not isinstance(error, RefusedTemporarily | SenderRefused):
            # An outage of our mail server, or wrong SMTP settings, must not count towards this
            # recipient's five days of refusals.
            return EmailOutcome(state=EmailState.QUEUED, at=now, answer=NOT_ACCEPTED)
        since = earlier.at if earlier else now
        if now - since < GIVE_UP_AFTER or (
            isinstance(error, SenderRefused)
            and not await self._store.emails.others_were_sent(to, since)
        ):
            return EmailOutcome(state=EmailState.QUEUED, at=since, answer=error.reply)
        reply = f"Refused for {GIVE_UP_AFTER.days} days: {error.reply}"
        return EmailOutcome(state=EmailState.FAILED, at=now, answer=reply)

    def _alert(self, error: SenderMisconfigured) -> None:
        """Tell operators that the mail server refuses our emails. Log this once in ten minutes."""
        REFUSED_BECAUSE_OF_SENDER.add(activity.metric_meter())
        now = time.monotonic()
        if now >= self._next_alert:
            self._next_alert = now + MISCONFIGURED_RETRY.total_seconds()
            _log.error(
                "the mail server refuses our emails (%s): check the SMTP settings,"
                " SMART_ACCOUNTS_MAIL_FROM, SPF and our host name",
                codes_of(error.reply) or "no code",
            )

    def _return_path(self, message: EmailMessage) -> str | None:
        if self._bounce_domain is None:
            return None
        return return_path(self._tokens.return_token(message["Message-ID"]), self._bounce_domain)

    async def _undelivered(self, request: StoredRequest, email: Email) -> list[EmailStatus]:
        """Return the customer's emails that did not arrive, which the ``expiring`` email lists."""
        if email.kind != EmailKind.EXPIRING:
            return []
        emails = await self._store.emails.of_request(request.id)
        return [
            status
            for sent, status in emails
            if sent.to == Addressee.CUSTOMER
            and (
                status.state in (EmailState.FAILED, EmailState.BOUNCED)
                or (status.state == EmailState.SENT and status.answer)  # it was returned
            )
        ]

    async def _record(self, request: StoredRequest, email: Email, outcome: EmailOutcome) -> None:
        while True:
            try:
                return await self._store.emails.record(request.id, email, outcome)
            except Unavailable:
                # The email has been sent. Giving up here would send it again.
                await asyncio.sleep(1)

    async def _link(self, request: StoredRequest) -> str:
        """Return the issued activation link, or a new one if the key of that link was removed."""
        ordinal = request.link_ordinal
        issued = await self._store.links.hash_of(request.id, ordinal)
        candidates = self._tokens.candidates(request.id, ordinal)
        token = next((each for each in candidates if token_hash(each) == issued), None)
        if token is None:
            token = candidates[0]
            # Save the link first: the customer may open it as soon as the email arrives.
            await self._store.links.save(request.id, ordinal, token_hash(token))
        return f"{self._base_url}/activate/{token}"


def _clock(now: datetime | None = None) -> Clock:
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
    if not attempt.done():
        return TimeoutError()
    return attempt.exception() or attempt.result()


def _is_outage(error: BaseException) -> bool:
    """Return True if other emails would fail in the same way, or take as long."""
    if isinstance(error, SenderRefused):
        return False
    return isinstance(error, Unreachable | SenderMisconfigured | Unavailable | TimeoutError)


@asynccontextmanager
async def _heartbeats() -> AsyncIterator[None]:
    """Send heartbeats, so that another worker takes over within seconds if this one dies."""

    async def beat() -> None:
        activity.heartbeat()

    async with _repeatedly(beat):
        yield


@asynccontextmanager
async def _repeatedly(step: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a step every ``HEARTBEAT_EVERY`` until the end of the block."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_EVERY.total_seconds())
            await step()

    repeating = asyncio.create_task(repeat())
    try:
        yield
    finally:
        repeating.cancel()
