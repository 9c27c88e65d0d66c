"""Sending mails: at least once each, never a settled one again, no one waits for another."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from smart_accounts.accounts.records import StoredRequest
from smart_accounts.accounts.store import AccountStore
from smart_accounts.errors import Unavailable
from smart_accounts.mail.compose import Composer, recipient
from smart_accounts.mail.smtp import (
    MailError,
    RefusedForGood,
    SenderMisconfigured,
    SmtpSender,
)
from smart_accounts.messages import (
    Email,
    EmailKind,
    EmailOutcome,
    EmailState,
    SendEmails,
    Status,
)
from smart_accounts.tokens import LinkTokens, token_hash

HEARTBEAT_EVERY = timedelta(seconds=3)
MISCONFIGURED_RETRY = timedelta(minutes=10)
ONLY_WHILE_PENDING = {EmailKind.ACTIVATION, EmailKind.REQUEST_RECEIVED}


class EmailActivities:
    def __init__(
        self,
        store: AccountStore,
        composer: Composer,
        sender: SmtpSender,
        tokens: LinkTokens,
        base_url: str,
    ) -> None:
        self._store = store
        self._composer = composer
        self._sender = sender
        self._tokens = tokens
        self._base_url = base_url

    @activity.defn
    async def send_emails(self, occasion: SendEmails) -> list[EmailOutcome]:
        """Try each mail once, side by side; answers the outcomes in the same order.

        A mail that is refused for now comes back ``queued``, unless that is all there is to
        say: then the activity fails, for Temporal to retry it with its back-off.
        """
        request = await self._store.find_request(occasion.request_id)
        if request is None:
            raise ApplicationError("The store does not know this request yet.")
        async with _heartbeats():
            results = await _finish(self._try(request, email) for email in occasion.emails)
        outcomes, errors = _sort_out(results)
        if errors and all(outcome.state == EmailState.QUEUED for outcome in outcomes):
            raise _retry_later(errors)
        return outcomes

    async def _try(self, request: StoredRequest, email: Email) -> EmailOutcome:
        if settled := await self._store.email_outcome(request.id, email):
            return settled
        if email.kind in ONLY_WHILE_PENDING and request.status != Status.PENDING:
            return EmailOutcome(state=EmailState.DROPPED, at=datetime.now(UTC))
        link = await self._link(request, email) if email.kind == EmailKind.ACTIVATION else None
        message = self._composer.compose(email, request, link)
        try:
            await self._sender.send(message)
            outcome = EmailOutcome(state=EmailState.SENT, at=datetime.now(UTC))
        except RefusedForGood as error:
            outcome = EmailOutcome(
                state=EmailState.FAILED, at=datetime.now(UTC), answer=error.answer
            )
        await self._record(request, email, message["Message-ID"], outcome)
        return outcome

    async def _record(
        self, request: StoredRequest, email: Email, message_id: str, outcome: EmailOutcome
    ) -> None:
        to = recipient(email, request)
        while True:
            try:
                return await self._store.record_email(request.id, email, to, message_id, outcome)
            except Unavailable:
                # The mail is out; giving up here would send it again.
                await asyncio.sleep(1)

    async def _link(self, request: StoredRequest, email: Email) -> str:
        """The activation link; the one already issued as long as its key is in use."""
        issued = await self._store.link_hash(request.id, email.number)
        candidates = self._tokens.candidates(request.id, email.number)
        token = next((each for each in candidates if token_hash(each) == issued), None)
        if token is None:
            token = candidates[0]
            # Before the mail leaves: a link that is out must be known.
            await self._store.save_link(request.id, email.number, token_hash(token))
        return f"{self._base_url}/activate/{token}"


async def _finish(
    tries: Iterable[Coroutine[Any, Any, EmailOutcome]],
) -> list[EmailOutcome | BaseException]:
    """Let mails in flight come to their end when the workflow no longer wants them."""
    work = asyncio.gather(*tries, return_exceptions=True)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if details is None or not details.cancel_requested:
            work.cancel()
            raise
        return await work


def _sort_out(
    results: list[EmailOutcome | BaseException],
) -> tuple[list[EmailOutcome], list[BaseException]]:
    queued = EmailOutcome(state=EmailState.QUEUED, at=datetime.now(UTC))
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
    if all(isinstance(error, MailError) for error in errors):
        return ApplicationError(
            "The mail server does not take the mail for now; it will be tried again.",
            type="RefusedForNow",
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
