"""The ledger of emails. An email whose outcome is recorded as final is never sent again."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus, Status
from smart_accounts.contract.steps import Addressee, Email, EmailOutcome
from smart_accounts.contract.webhooks import EventType
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.decisions import find_request
from smart_accounts.store.email_statuses import find_emails, find_statuses, stored_email
from smart_accounts.store.limits import Limits, check_emails, lock_requester
from smart_accounts.store.outbox import add_event
from smart_accounts.store.records import ReturnedEmail, StoredRequest
from smart_accounts.tokens import token_hash

LEASE = timedelta(seconds=10)  # after a crash, another worker waits at most this long
# Emails that may bounce. A queued email may have been sent, because the reply can be lost.
_MAY_BOUNCE = (EmailState.SENT, EmailState.QUEUED)


class BeingSent(Exception):
    """Another attempt is sending this email. Its lease has not expired."""


class EmailLedger:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin(
        self,
        request: StoredRequest,
        email: Email,
        message_id: str,
        return_token: str,
        *,
        now: datetime,
        limits: Limits,
    ) -> EmailOutcome | None:
        """Add an email to the ledger before it is sent, so that a bounce finds it at any time.

        The caller gets a lease: no other attempt sends the email until the outcome is recorded or
        the lease expires. ``renew`` keeps it.

        Returns the outcome that counts if the email was tried before or is outdated, otherwise
        None. ``at`` of a ``queued`` email is when it was first tried.

        Raises:
            BeingSent: another attempt has the lease.
            Rejected: the requester's emails within a day have reached a limit.
        """
        row: dict[str, Any] = {
            "leased_until": now + LEASE,
            "message_id": message_id,
            "return_token_hash": token_hash(return_token),  # of the newest key
        }
        async with transaction(self._engine, writes=True) as connection:
            # Lock before reading, because the approver may be replaced while this waits.
            await lock_requester(connection, request.owner, request.requester_email)
            earlier = await _outcome(connection, request.id, email, now)
            if earlier and earlier.state != EmailState.QUEUED:
                return earlier
            current = await find_request(connection, request.id) or request
            if current.is_outdated(email):
                return EmailOutcome(state=EmailState.DROPPED, at=now)
            if earlier:
                await connection.execute(
                    update(tables.emails).where(_is(request.id, email)).values(row)
                )
                return earlier
            await _add(connection, request, email, row, now, limits)
            return None

    async def record(self, request_id: str, email: Email, outcome: EmailOutcome) -> None:
        """Record the outcome of an email. The first outcome that is not ``queued`` is kept."""
        emails = tables.emails
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(emails)
                .where(_is(request_id, email), emails.c.state == EmailState.QUEUED)
                .values(**outcome.model_dump(), leased_until=None)
            )

    async def renew(self, request_id: str, email: Email, now: datetime) -> None:
        """Renew the lease of an email that is still being sent."""
        emails = tables.emails
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(emails)
                .where(_is(request_id, email), emails.c.state == EmailState.QUEUED)
                .values(leased_until=now + LEASE)
            )

    async def others_were_sent(self, recipient: str, since: datetime) -> bool:
        """Return True if another domain took an email later than ``since`` and kept it."""
        emails = tables.emails.c
        domain = recipient.rpartition("@")[2]
        async with transaction(self._engine, writes=False) as connection:
            found = await connection.execute(
                select(emails.at)
                .where(
                    emails.at > since,
                    emails.state == EmailState.SENT,
                    emails.answer.is_(None),  # otherwise it was returned
                    not_(emails.recipient.iendswith(f"@{domain}", autoescape=True)),
                )
                .limit(1)
            )
            return found.first() is not None

    async def of_request(self, request_id: str) -> list[tuple[Email, EmailStatus]]:
        """Return the emails that were tried, ordered by their last outcome."""
        async with transaction(self._engine, writes=False) as connection:
            return await find_emails(connection, request_id)

    async def statuses(self, request: StoredRequest) -> tuple[EmailStatus, ...]:
        """Return the status of each email, except those on their way and those not to be sent."""
        async with transaction(self._engine, writes=False) as connection:
            return await find_statuses(connection, request)

    async def find_returned_activations(self) -> list[str]:
        """Return the workflow ids of the pending requests whose newest activation email returned.

        It came back because of us. The oldest request comes first.
        """
        emails, requests = tables.emails.c, tables.requests.c
        async with transaction(self._engine, writes=False) as connection:
            found = await connection.scalars(
                select(requests.workflow_id)
                .join(tables.emails, emails.request_id == requests.id)
                .where(
                    requests.status == Status.PENDING,
                    emails.kind == EmailKind.ACTIVATION,
                    emails.number == requests.link_ordinal,
                    emails.state == EmailState.SENT,
                    emails.answer.is_not(None),
                )
                .order_by(requests.requested_at)
            )
            return list(found)

    async def find_returned(self, return_token: str) -> ReturnedEmail | None:
        """Return the email that was sent with this return path.

        Returns None if there is no such email, or if it is already known to have bounced.
        """
        emails, requests = tables.emails.c, tables.requests.c
        # A worker of the previous release stores the token itself while this one is deployed. A
        # stored hash passes for no token, because a return path has only 32 characters.
        stored = (token_hash(return_token), return_token)
        async with transaction(self._engine, writes=False) as connection:
            row = (
                await connection.execute(
                    select(tables.emails, requests.workflow_id)
                    .join(tables.requests, requests.id == emails.request_id)
                    .where(emails.return_token_hash.in_(stored), emails.state.in_(_MAY_BOUNCE))
                )
            ).one_or_none()
            if row is None:
                return None
            return ReturnedEmail(
                workflow_id=row.workflow_id, request_id=row.request_id, email=stored_email(row)
            )

    async def mark_bounced(self, returned: ReturnedEmail, outcome: EmailOutcome) -> None:
        """Record that an email bounced. The first report is kept."""
        async with transaction(self._engine, writes=True) as connection:
            if await _mark(connection, returned, **outcome.model_dump()):
                await add_event(
                    connection, returned.request_id, EventType.EMAIL_BOUNCED, outcome.at
                )

    async def mark_returned(self, returned: ReturnedEmail, reply: str) -> None:
        """Record that an email was returned because of us. It stays ``sent``, with the reply."""
        emails = tables.emails.c
        is_first = or_(emails.state == EmailState.QUEUED, emails.answer.is_(None))
        async with transaction(self._engine, writes=True) as connection:
            await _mark(connection, returned, is_first, state=EmailState.SENT, answer=reply)


async def _mark(
    connection: AsyncConnection,
    returned: ReturnedEmail,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> bool:
    """Change an email that was returned. Returns False if it has bounced before."""
    changed = await connection.execute(
        update(tables.emails)
        .where(
            _is(returned.request_id, returned.email),
            tables.emails.c.state.in_(_MAY_BOUNCE),
            *conditions,
        )
        .values(**values)
    )
    return bool(changed.rowcount)


def _is(request_id: str, email: Email) -> Any:
    columns = tables.emails.c
    return and_(
        columns.request_id == request_id,
        columns.kind == email.kind,
        columns.addressee == email.to,
        columns.number == email.number,
    )


async def _add(
    connection: AsyncConnection,
    request: StoredRequest,
    email: Email,
    row: dict[str, Any],
    now: datetime,
    limits: Limits,
) -> None:
    """Add an email that was never tried.

    Raises:
        Rejected: a limit of the requester's emails is reached.
    """
    to = email.address_in(request)
    if email.to != Addressee.REQUESTER:
        row["mailbox"] = mailbox(to)
        await check_emails(connection, request, mailbox(to), now, limits)
    row |= {"kind": email.kind, "addressee": email.to, "number": email.number}
    row |= {"recipient": to, "state": EmailState.QUEUED, "at": now}
    await connection.execute(insert(tables.emails).values(request_id=request.id, **row))


async def _outcome(
    connection: AsyncConnection, request_id: str, email: Email, now: datetime
) -> EmailOutcome | None:
    found = await connection.execute(
        select(tables.emails).where(_is(request_id, email)).with_for_update()
    )
    row = found.one_or_none()
    if row is None:
        return None
    if row.state == EmailState.QUEUED and row.leased_until and row.leased_until > now:
        raise BeingSent
    return EmailOutcome(state=EmailState(row.state), at=row.at, answer=row.answer)
