"""Begin emails and record their outcomes, several in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Text,
    and_,
    bindparam,
    case,
    insert,
    null,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.messages import EmailKind, EmailState
from smart_accounts.contract.steps import Addressee, Email, EmailOutcome
from smart_accounts.errors import Rejected
from smart_accounts.store import tables
from smart_accounts.store.limits import Limits, check_emails, lock_requester_of
from smart_accounts.store.links import save_link
from smart_accounts.store.records import ERASED, StoredRequest, stored_request
from smart_accounts.tokens import LinkTokens, token_hash

# After a crash, another worker waits as long. A write may wait ten seconds for its turn on SQLite,
# and meanwhile no lease can be renewed.
LEASE = timedelta(seconds=20)
WITH_LINK = {EmailKind.ACTIVATION, EmailKind.REMINDER}


class BeingSent(Exception):
    """Another attempt is sending this email, or its lease expired a moment ago."""

    def __init__(self, leased_until: datetime) -> None:
        super().__init__()
        self.leased_until = leased_until


class UnknownRequest(Exception):
    """The store does not know the request."""


@dataclass(frozen=True, kw_only=True)
class SendAttempt:
    """An attempt to send an email. ``tokens`` make its return path and its activation link.

    ``clock`` is read when the transaction has begun, because that may take long. ``seen_lease`` is
    the expired lease of another attempt, if there was one at the last look. Only this lease is
    taken over, because after an outage of the database the other attempt may just record that the
    email was sent.
    """

    request_id: str
    email: Email
    message_id: str
    tokens: LinkTokens
    clock: Callable[[], datetime]
    limits: Limits
    seen_lease: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An email in the ledger, and what to compose it from.

    ``outcome`` is set if the email was tried before or is outdated. The email must be sent if there
    is none, or if it is ``queued``; its ``at`` is then when it was first tried. ``link_token`` is
    set if the email must be sent and contains the activation link.
    """

    request: StoredRequest
    outcome: EmailOutcome | None
    link_token: str | None = None


Outcome = tuple[str, Email, EmailOutcome]
"""The id of a request, one of its emails, and the outcome of that email."""

_requests, _links, _emails = tables.requests.c, tables.activation_links.c, tables.emails.c
# Statements are made once, because making one takes as long as running it.
_REQUEST_AND_LINK = (
    select(tables.requests, _links.token_hash)
    .outerjoin(
        tables.activation_links,
        and_(_links.request_id == _requests.id, _links.ordinal == _requests.link_ordinal),
    )
    .where(_requests.id == bindparam("request_id"))
)
# In the order in which `record_outcomes` changes them. Otherwise both could wait for each other.
_EARLIER = (
    select(tables.emails)
    .where(_emails.request_id == bindparam("request_id"))
    .order_by(_emails.kind, _emails.addressee, _emails.number)
    .with_for_update()
)
_IS_EMAIL = and_(
    _emails.request_id == bindparam("of_request"),
    _emails.kind == bindparam("of_kind"),
    _emails.addressee == bindparam("of_addressee"),
    _emails.number == bindparam("of_number"),
)
_CHANGE = update(tables.emails).where(_IS_EMAIL)
_CHANGE_QUEUED = _CHANGE.where(_emails.state == EmailState.QUEUED)


def kept_reply(reply: Any) -> ColumnElement[str | None]:
    """Return the new value of ``answer``. A reply may name its recipient, who may be erased now."""
    return case((_emails.recipient == ERASED, null()), else_=reply)


_RECORD = _CHANGE_QUEUED.values(
    state=bindparam("new_state"),
    at=bindparam("new_at"),
    answer=kept_reply(bindparam("reply", type_=Text)),
    leased_until=None,
)
_INSERT = insert(tables.emails)


async def begin_emails(
    connection: AsyncConnection, attempts: Sequence[SendAttempt]
) -> list[Begun | Exception]:
    """Add emails to the ledger before they are sent, so that a bounce finds them at any time.

    Each gets a lease: no other attempt sends the email until the outcome is recorded or the lease
    expires. Returns ``BeingSent`` for an email of which another attempt has the lease, and
    ``Rejected`` if the requester's emails within a day have reached a limit.

    Raises:
        UnknownRequest: the store does not know the request.
    """
    request_id = attempts[0].request_id
    # Lock before reading, because the approver may be replaced while this waits.
    await lock_requester_of(connection, request_id)
    found = await connection.execute(_REQUEST_AND_LINK, {"request_id": request_id})
    row = found.one_or_none()
    if row is None:
        raise UnknownRequest("The store does not know this request yet.")
    earlier = await connection.execute(_EARLIER, {"request_id": request_id})
    batch = _Batch(connection, stored_request(row), row.token_hash, earlier.all())
    begun = [await batch.begin(attempt) for attempt in attempts]
    await batch.save_new_rows()
    return begun


class _Batch:
    """The emails of one request that are tried together."""

    def __init__(
        self,
        connection: AsyncConnection,
        request: StoredRequest,
        link_hash: str | None,
        earlier: Sequence[Row[Any]],
    ) -> None:
        self._connection = connection
        self._request = request
        self._link_hash = link_hash
        self._earlier = {(row.kind, row.addressee, row.number): row for row in earlier}
        self._new_rows: list[dict[str, Any]] = []
        self._leased: set[Email] = set()
        """The emails that this batch has taken the lease of."""

    async def begin(self, attempt: SendAttempt) -> Begun | Exception:
        email, request, now = attempt.email, self._request, attempt.clock()
        row = self._earlier.get((email.kind, email.to, email.number))
        if email in self._leased:
            return BeingSent(now + LEASE)
        if row and _has_lease(row, attempt.seen_lease, now):
            return BeingSent(row.leased_until)
        outcome = row and EmailOutcome(state=EmailState(row.state), at=row.at, answer=row.answer)
        if outcome and outcome.state != EmailState.QUEUED:
            return Begun(request=request, outcome=outcome)
        if request.is_outdated(email):
            dropped = EmailOutcome(state=EmailState.DROPPED, at=now)
            return Begun(request=request, outcome=dropped)
        try:
            await (self._try_again(attempt, now) if outcome else self._add(attempt, now))
        except Rejected as error:
            return error
        self._leased.add(email)
        token = await self._link_token(attempt.tokens) if email.kind in WITH_LINK else None
        return Begun(request=request, outcome=outcome, link_token=token)

    async def _try_again(self, attempt: SendAttempt, now: datetime) -> None:
        await self._connection.execute(
            _CHANGE, _key(self._request.id, attempt.email) | _lease(attempt, now)
        )

    async def _add(self, attempt: SendAttempt, now: datetime) -> None:
        """Add an email that was never tried.

        Raises:
            Rejected: a limit of the requester's emails is reached.
        """
        email, to = attempt.email, attempt.email.address_in(self._request)
        its_mailbox = None if email.to == Addressee.REQUESTER else mailbox(to)
        if its_mailbox:
            if any(row["mailbox"] for row in self._new_rows):
                await self.save_new_rows()  # because they count
            await check_emails(self._connection, self._request, its_mailbox, now, attempt.limits)
        key = {"kind": email.kind, "addressee": email.to, "number": email.number}
        row = {
            "recipient": to,
            "mailbox": its_mailbox,
            "state": EmailState.QUEUED,
            "at": now,
        }
        self._new_rows.append({"request_id": self._request.id} | key | row | _lease(attempt, now))

    async def save_new_rows(self) -> None:
        if self._new_rows:
            await self._connection.execute(_INSERT, self._new_rows)
            self._new_rows = []

    async def _link_token(self, tokens: LinkTokens) -> str:
        """Return the token of the issued link, or of a new one if the key of it was removed."""
        request = self._request
        candidates = tokens.candidates(request.id, request.link_ordinal)
        for token in candidates:
            if token_hash(token) == self._link_hash:
                return token
        # Save the link before the email is sent, because the customer may open it immediately.
        self._link_hash = token_hash(candidates[0])
        await save_link(self._connection, request.id, request.link_ordinal, self._link_hash)
        return candidates[0]


def _has_lease(row: Row[Any], seen_lease: datetime | None, now: datetime) -> bool:
    if row.leased_until is None or row.state != EmailState.QUEUED:
        return False
    has_expired: bool = row.leased_until <= now
    return not has_expired or row.leased_until != seen_lease


def _lease(attempt: SendAttempt, now: datetime) -> dict[str, Any]:
    return_token = attempt.tokens.return_token(attempt.message_id)
    return {
        "leased_until": now + LEASE,
        "message_id": attempt.message_id,
        "return_token_hash": token_hash(return_token),  # of the newest key
    }


def _key(request_id: str, email: Email) -> dict[str, Any]:
    """Return the parameters that name an email."""
    return {
        "of_request": request_id,
        "of_kind": email.kind,
        "of_addressee": email.to,
        "of_number": email.number,
    }


async def record_outcomes(connection: AsyncConnection, outcomes: Sequence[Outcome]) -> list[None]:
    """Record the outcomes of emails. The first outcome that is not ``queued`` is kept."""
    changes = [
        _key(request_id, email)
        | {"new_state": outcome.state, "new_at": outcome.at, "reply": outcome.answer}
        for request_id, email, outcome in outcomes
    ]
    changes.sort(key=itemgetter("of_request", "of_kind", "of_addressee", "of_number"))
    await connection.execute(_RECORD, changes)
    return [None] * len(outcomes)


async def renew_lease(
    connection: AsyncConnection, request_id: str, email: Email, now: datetime
) -> None:
    await connection.execute(
        _CHANGE_QUEUED, _key(request_id, email) | {"leased_until": now + LEASE}
    )
