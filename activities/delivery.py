"""Deliver one email: take its lease, compose it, send it and record the outcome.

If a worker is killed before it has recorded the outcome, the email is sent again, with the same
Message-ID.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any

from temporalio import activity

from activities import measurements
from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus
from smart_accounts.contract.steps import Addressee, Email, EmailOutcome
from smart_accounts.errors import Unavailable
from smart_accounts.mail.compose import Composer
from smart_accounts.mail.refusals import NOT_ACCEPTED, codes_of
from smart_accounts.mail.smtp import (
    MailError,
    RefusedPermanently,
    RefusedTemporarily,
    SenderMisconfigured,
    SenderRefused,
    SmtpSender,
)
from smart_accounts.store.limits import Limits
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.sending import BeingSent, SendAttempt
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.metrics import REFUSED_BECAUSE_OF_SENDER
from smart_accounts.tokens import LinkTokens, return_path

HEARTBEAT_EVERY = timedelta(seconds=3)
LEASE_CHECK = timedelta(seconds=0.5)
# How long another attempt may take to record that the email was sent, once the store responds.
RECORD_TIME = timedelta(seconds=3)
# More than the connections, because an attempt also waits for the store. Each renews its lease.
MAX_ATTEMPTS = 32
ALERT_EVERY = timedelta(minutes=10)
GIVE_UP_AFTER = timedelta(days=5)  # mail servers keep trying as long (RFC 5321 §4.5.4.1)

Clock = Callable[[], datetime]

_log = logging.getLogger(__name__)


class Delivery:
    def __init__(
        self,
        store: AccountStore,
        composer: Composer,
        sender: SmtpSender,
        tokens: LinkTokens,
        base_url: str,
        bounce_domain: str | None,
        limits: Limits,
    ) -> None:
        self._store = store
        self._composer = composer
        self._sender = sender
        self._tokens = tokens
        self._base_url = base_url
        self._bounce_domain = bounce_domain
        self._limits = limits
        self._next_alert = 0.0
        self._turns = asyncio.Semaphore(MAX_ATTEMPTS)
        self.under_way: set[asyncio.Task[Any]] = set()
        """The tasks that send an email now. Cancelling one could send the email twice."""

    async def attempt(self, request_id: str, email: Email, clock: Clock) -> EmailOutcome:
        """Try to send an email once. Returns its outcome, which may be that of another attempt.

        This waits for its turn before it takes the email's lease. Otherwise hundreds of waiting
        emails would have to renew their leases.

        Raises:
            MailError: it could not be sent yet.
            Rejected: a limit of the requester's emails is reached.
            UnknownRequest: the store does not know the request.
            asyncio.CancelledError: the activity was cancelled while this waited. What the email
                says may no longer be true, so it must not be sent.
        """
        task, seen_lease, has_waited_for_lease = asyncio.current_task(), None, False
        assert task
        while True:
            async with self._turns:
                if activity.is_cancelled() and not has_waited_for_lease:
                    raise asyncio.CancelledError
                self.under_way.add(task)
                try:
                    return await self._attempt(request_id, email, clock, seen_lease)
                except BeingSent as other:
                    has_waited_for_lease = True
                    has_expired = other.leased_until <= clock()
                    seen_lease = other.leased_until if has_expired else None
                finally:
                    self.under_way.discard(task)
            await asyncio.sleep((RECORD_TIME if seen_lease else LEASE_CHECK).total_seconds())

    async def _attempt(
        self, request_id: str, email: Email, clock: Clock, seen_lease: datetime | None
    ) -> EmailOutcome:
        begun = await self._store.emails.begin(
            SendAttempt(
                request_id=request_id,
                email=email,
                message_id=self._composer.message_id(email, request_id),
                tokens=self._tokens,
                clock=clock,
                limits=self._limits,
                seen_lease=seen_lease,
            )
        )
        request, earlier = begun.request, begun.outcome
        if earlier and earlier.state != EmailState.QUEUED:
            return earlier
        if activity.is_cancelled():
            raise asyncio.CancelledError
        message = self._composer.compose(
            email,
            request,
            f"{self._base_url}/activate/{begun.link_token}" if begun.link_token else None,
            now=clock(),
            undelivered=await self._undelivered(request, email),
        )
        async with self._lease_renewed(request.id, email, clock):
            return await self._send(message, request, email, earlier, clock)

    async def _send(
        self,
        message: EmailMessage,
        request: StoredRequest,
        email: Email,
        earlier: EmailOutcome | None,
        clock: Clock,
    ) -> EmailOutcome:
        try:
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

    @asynccontextmanager
    async def _lease_renewed(
        self, request_id: str, email: Email, clock: Clock
    ) -> AsyncIterator[None]:
        async def renew() -> None:
            with suppress(Unavailable):
                await self._store.emails.renew(request_id, email, clock)

        async with repeatedly(renew):
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
            self._next_alert = now + ALERT_EVERY.total_seconds()
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


@asynccontextmanager
async def repeatedly(step: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
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
