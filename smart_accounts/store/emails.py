"""The ledger of emails. An email whose outcome is recorded as final is never sent again."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus, Status
from smart_accounts.contract.steps import Email, EmailOutcome
from smart_accounts.contract.webhooks import EventType
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.email_statuses import find_emails, find_statuses, stored_email
from smart_accounts.store.outbox import add_event
from smart_accounts.store.records import ReturnedEmail, StoredRequest
from smart_accounts.store.sending import (
    Begun,
    SendAttempt,
    begin_emails,
    kept_reply,
    record_outcomes,
    renew_lease,
)
from smart_accounts.store.shared_transactions import SharedTransactions
from smart_accounts.tokens import token_hash

RECORD_WAIT = timedelta(milliseconds=10)
"""How long the outcome of a sent email waits for others, to be recorded with them."""
# Emails that may bounce. A queued email may have been sent, because the reply can be lost.
_MAY_BOUNCE = (EmailState.SENT, EmailState.QUEUED)


class EmailLedger:
    """Each method raises ``Unavailable`` if the database is down.

    ``begin`` and ``record`` share their transactions with other calls at the same time. Each other
    method is one transaction.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # An occasion has several emails, which begin and end at nearly the same time.
        self._attempts = SharedTransactions(engine, begin_emails)
        self._outcomes = SharedTransactions(engine, record_outcomes, wait=RECORD_WAIT)

    async def begin(self, attempt: SendAttempt) -> Begun:
        """Add an email to the ledger before it is sent, so that a bounce finds it at any time.

        The caller gets a lease: no other attempt sends the email until the outcome is recorded or
        the lease expires. ``renew`` keeps it.

        Raises:
            BeingSent: another attempt has the lease.
            Rejected: the requester's emails within a day have reached a limit.
            UnknownRequest: the store does not know the request.
        """
        return await self._attempts.call(attempt.request_id, attempt)

    async def record(self, request_id: str, email: Email, outcome: EmailOutcome) -> None:
        """Record the outcome of an email. The first outcome that is not ``queued`` is kept."""
        await self._outcomes.call("", (request_id, email, outcome))

    async def renew(self, request_id: str, email: Email, clock: Callable[[], datetime]) -> None:
        """Renew the lease of an email that is still being sent."""
        async with transaction(self._engine, writes=True) as connection:
            await renew_lease(connection, request_id, email, clock())

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
        values = outcome.model_dump() | {"answer": kept_reply(outcome.answer)}
        async with transaction(self._engine, writes=True) as connection:
            if await _mark(connection, returned, **values):
                await add_event(
                    connection, returned.request_id, EventType.EMAIL_BOUNCED, outcome.at
                )

    async def mark_returned(self, returned: ReturnedEmail, reply: str) -> None:
        """Record that an email was returned because of us. It stays ``sent``, with the reply."""
        emails = tables.emails.c
        is_first = or_(emails.state == EmailState.QUEUED, emails.answer.is_(None))
        values = {"state": EmailState.SENT, "answer": kept_reply(reply)}
        async with transaction(self._engine, writes=True) as connection:
            await _mark(connection, returned, is_first, **values)


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
