"""Sending emails: at least once each, never a settled one again, no one waits for another."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from smart_accounts.contract.messages import Addressee, Email, EmailKind, EmailState, EmailStatus
from smart_accounts.contract.steps import EmailOutcome, SendEmails
from smart_accounts.errors import Unavailable
from smart_accounts.mail.bounces import return_path
from smart_accounts.mail.compose import Composer, recipient
from smart_accounts.mail.smtp import (
    MailError,
    RefusedPermanently,
    RefusedTemporarily,
    SenderMisconfigured,
    SmtpSender,
    Unreachable,
)
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens, token_hash

HEARTBEAT_EVERY = timedelta(seconds=3)
MISCONFIGURED_RETRY = timedelta(minutes=10)
FOR_GOOD_AFTER = timedelta(days=5)  # as long as mail servers queue (RFC 5321, 4.5.4.1)
WITH_LINK = {EmailKind.ACTIVATION, EmailKind.REMINDER}

Clock = Callable[[], datetime]


class EmailActivities:
    def __init__(
        self,
        store: AccountStore,
        composer: Composer,
        sender: SmtpSender,
        tokens: LinkTokens,
        base_url: str,
        bounce_domain: str | None,
    ) -> None:
        self._store = store
        self._composer = composer
        self._sender = sender
        self._tokens = tokens
        self._base_url = base_url
        self._bounce_domain = bounce_domain

    @activity.defn
    async def send_emails(self, occasion: SendEmails) -> list[EmailOutcome]:
        """Try each email once, side by side; answers the outcomes in the same order.

        An email that is refused for now comes back ``queued``, unless that is all there is to
        say: then the activity fails, for Temporal to retry it with its back-off.
        """
        request = await self._store.find_request(occasion.request_id)
        if request is None:
            raise ApplicationError("The store does not know this request yet.")
        clock = _clock()
        async with _heartbeats():
            results = await _finish(self._try(request, email, clock) for email in occasion.emails)
        outcomes, errors = _sort_out(results, clock())
        is_late = occasion.until is not None and clock() >= occasion.until
        if errors and not is_late and all(each.state == EmailState.QUEUED for each in outcomes):
            raise _retry_later(errors)
        return outcomes

    async def _try(self, request: StoredRequest, email: Email, clock: Clock) -> EmailOutcome:
        known = await self._store.emails.outcome(request.id, email)
        if known and known.state != EmailState.QUEUED:
            return known
        if request.makes_untrue(email):
            return EmailOutcome(state=EmailState.DROPPED, at=clock())
        link = await self._link(request) if email.kind in WITH_LINK else None
        message = self._composer.compose(
            email,
            request,
            link,
            now=clock(),
            undelivered=await self._undelivered(request, email),
        )
        try:
            outcome = await self._send(message, known, clock)
        except Unreachable:
            if known:  # the days of an outage of ours are none of its refusals
                await self._store.emails.forget_refusals(request.id, email)
            raise
        await self._record(request, email, message["Message-ID"], outcome)
        if outcome.state == EmailState.QUEUED:
            raise RefusedTemporarily(outcome.answer or "")
        return outcome

    async def _send(
        self, message: EmailMessage, known: EmailOutcome | None, clock: Clock
    ) -> EmailOutcome:
        try:
            await self._sender.send(message, self._return_path(message))
        except RefusedPermanently as error:
            return EmailOutcome(state=EmailState.FAILED, at=clock(), answer=error.answer)
        except RefusedTemporarily as error:
            since = known.at if known else clock()
            if clock() - since < FOR_GOOD_AFTER:
                return EmailOutcome(state=EmailState.QUEUED, at=since, answer=error.answer)
            answer = f"{error.answer} (for {FOR_GOOD_AFTER.days} days)"
            return EmailOutcome(state=EmailState.FAILED, at=clock(), answer=answer)
        return EmailOutcome(state=EmailState.SENT, at=clock())

    def _return_path(self, message: EmailMessage) -> str | None:
        if self._bounce_domain is None:
            return None
        return return_path(self._tokens.return_token(message["Message-ID"]), self._bounce_domain)

    async def _undelivered(self, request: StoredRequest, email: Email) -> list[EmailStatus]:
        """What the requester should know when nobody answers: emails that did not arrive."""
        if email.kind != EmailKind.EXPIRING:
            return []
        emails = await self._store.emails.of_request(request.id)
        return [
            status
            for mail, status in emails
            if mail.to == Addressee.CUSTOMER
            and status.state in (EmailState.FAILED, EmailState.BOUNCED)
        ]

    async def _record(
        self, request: StoredRequest, email: Email, message_id: str, outcome: EmailOutcome
    ) -> None:
        to, token = recipient(email, request), self._tokens.return_token(message_id)
        while True:
            try:
                return await self._store.emails.record(
                    request.id, email, to, message_id, token, outcome
                )
            except Unavailable:
                # The email is out; giving up here would send it again.
                await asyncio.sleep(1)

    async def _link(self, request: StoredRequest) -> str:
        """The activation link; the one already issued as long as its key is in use."""
        ordinal = request.link_ordinal
        issued = await self._store.link_hash(request.id, ordinal)
        candidates = self._tokens.candidates(request.id, ordinal)
        token = next((each for each in candidates if token_hash(each) == issued), None)
        if token is None:
            token = candidates[0]
            # Before the email leaves: a link that is out must be known.
            await self._store.save_link(request.id, ordinal, token_hash(token))
        return f"{self._base_url}/activate/{token}"


def _clock() -> Clock:
    """Temporal's clock, not this machine's: what it says stands beside the workflow's times."""
    started, begun = activity.info().started_time, time.monotonic()
    return lambda: started + timedelta(seconds=time.monotonic() - begun)


async def _finish(
    tries: Iterable[Coroutine[Any, Any, EmailOutcome]],
) -> list[EmailOutcome | BaseException]:
    """Let emails in flight come to their end when the workflow no longer wants them."""
    work = asyncio.gather(*tries, return_exceptions=True)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if details is None or not details.cancel_requested:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            raise
        return await work


def _sort_out(
    results: list[EmailOutcome | BaseException], now: datetime
) -> tuple[list[EmailOutcome], list[BaseException]]:
    queued = EmailOutcome(state=EmailState.QUEUED, at=now)
    outcomes = [queued if isinstance(result, BaseException) else result for result in results]
    return outcomes, [result for result in results if isinstance(result, BaseException)]


def _retry_later(errors: list[BaseException]) -> BaseException:
    """What the operator sees on the pending activity: no address, so no server's full answer."""
    for error in errors:
        if isinstance(error, SenderMisconfigured):
            return ApplicationError(
                "The mail server does not accept our account or address: check the SMTP settings.",
                type="SenderMisconfigured",
                next_retry_delay=MISCONFIGURED_RETRY,
            )
    if any(isinstance(error, Unreachable) for error in errors):
        return ApplicationError(
            "No mail server takes emails from us for now; they will be tried again.",
            type="MailServerUnreachable",
        )
    if all(isinstance(error, MailError) for error in errors):
        return ApplicationError(
            "The mail server does not take the email for now; it will be tried again.",
            type="RefusedTemporarily",
        )
    return next(error for error in errors if not isinstance(error, MailError))


@asynccontextmanager
async def _heartbeats() -> AsyncIterator[None]:
    """Tell Temporal that the sends go on: when the worker dies, another takes over in seconds."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_EVERY.total_seconds())
            activity.heartbeat()

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
