"""What the sweep compares with Temporal: open requests, and the runs that the store knows."""

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Self

from sqlalchemy import ColumnElement, Row, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.contract.actions import Role
from smart_accounts.contract.closing_emails import closing_emails
from smart_accounts.contract.messages import EmailState, Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.contract.steps import Email
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.decisions import TERMINATED, find_request, settle_terminated
from smart_accounts.store.records import OPEN, StoredRequest, stored_request

ROWS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class KnownRequest:
    """A request as far as the sweep compares it."""

    id: str
    account_domain: str
    run_id: str
    """The first run of the last restart. Without a restart, the run after the last reset."""
    status: Status
    link_ordinal: int
    requested_at: datetime
    decided_at: datetime | None
    was_settled: bool
    """Its workflow was terminated or lost, so that the store ended it."""
    closed_at: datetime | None
    missing_since: datetime | None
    emails_due: bool
    erased_at: datetime | None

    @property
    def workflow_id(self) -> str:
        return workflow_id(self.account_domain)

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        return cls(
            id=row.id,
            account_domain=row.account_domain,
            run_id=row.run_id or row.id,
            status=Status(row.status),
            link_ordinal=row.link_ordinal,
            requested_at=row.requested_at,
            decided_at=row.decided_at,
            was_settled=row.decided_by == Role.OPERATOR and row.reason == TERMINATED,
            closed_at=row.closed_at,
            missing_since=row.missing_since,
            emails_due=row.emails_due,
            erased_at=row.erased_at,
        )


_COLUMNS = tables.requests.c[
    "id",
    "account_domain",
    "run_id",
    "status",
    "link_ordinal",
    "requested_at",
    "decided_at",
    "decided_by",
    "reason",
    "closed_at",
    "missing_since",
    "emails_due",
    "erased_at",
]


class Comparison:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def namespace(self) -> str | None:
        """Return the id of the Temporal namespace that runs the requests of this store."""
        async with transaction(self._engine, writes=False) as connection:
            found: str | None = await connection.scalar(select(tables.temporal_namespace.c.id))
            return found

    async def set_namespace(self, namespace_id: str) -> None:
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(delete(tables.temporal_namespace))
            await connection.execute(insert(tables.temporal_namespace).values(id=namespace_id))

    async def find(self, run_id: str) -> KnownRequest | None:
        """Return the request with this id, or the one that this run continues."""
        return (await self.find_all([run_id])).get(run_id)

    async def find_all(self, run_ids: Collection[str]) -> dict[str, KnownRequest]:
        """Return the requests that these runs belong to, by run id and by request id."""
        requests = tables.requests.c
        found = await self._select(or_(requests.id.in_(run_ids), requests.run_id.in_(run_ids)))
        return {known.id: known for known in found} | {known.run_id: known for known in found}

    async def open_requests(self) -> AsyncIterator[Sequence[KnownRequest]]:
        """Yield the open requests, in batches."""
        requests, last = tables.requests.c, ""
        while batch := await self._select(requests.status.in_(OPEN), requests.id > last):
            yield batch
            last = batch[-1].id

    async def _select(self, *conditions: ColumnElement[bool]) -> list[KnownRequest]:
        query = select(*_COLUMNS).where(*conditions).order_by(tables.requests.c.id)
        async with transaction(self._engine, writes=False) as connection:
            rows = await connection.execute(query.limit(2 * ROWS_AT_ONCE))
            return [KnownRequest.of(row) for row in rows]

    async def set_run(self, request_id: str, run_id: str) -> None:
        """Note which run continues a request."""
        await self._update([request_id], run_id=run_id)

    async def set_missing_since(self, request_ids: Iterable[str], at: datetime | None) -> None:
        """Note when the workflows of open requests were first not found, or that they are found."""
        remaining = iter(request_ids)
        while batch := list(islice(remaining, ROWS_AT_ONCE)):
            await self._update(batch, missing_since=at)

    async def set_emails_due(self, request_id: str, *, due: bool) -> None:
        await self._update([request_id], emails_due=due)

    async def _update(self, request_ids: Sequence[str], **values: Any) -> None:
        requests = tables.requests
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(requests).where(requests.c.id.in_(request_ids)).values(**values)
            )

    async def settle(self, known: KnownRequest, at: datetime) -> bool:
        """Withdraw a request whose workflow is gone. Returns False if it was changed meanwhile."""
        async with transaction(self._engine, writes=True) as connection:
            query = select(tables.requests.c.run_id).where(tables.requests.c.id == known.id)
            # Until the end, so that no new run takes it over meanwhile.
            run_id = await connection.scalar(query.with_for_update(key_share=True))
            if (run_id or known.id) != known.run_id:
                return False  # a new run continues it
            return await settle_terminated(connection, known.id, at) is not None

    async def emails_due(self) -> list[StoredRequest]:
        """Return the requests whose closing emails no workflow sends yet."""
        query = select(tables.requests).where(tables.requests.c.emails_due)
        async with transaction(self._engine, writes=False) as connection:
            return [stored_request(row) for row in await connection.execute(query)]

    async def unsent_closing_emails(self, request_id: str) -> tuple[Email, ...]:
        """Return the emails about the end of a request that were not sent, and should be."""
        emails = tables.emails.c
        async with transaction(self._engine, writes=False) as connection:
            request = await find_request(connection, request_id)
            if request is None or not request.status.is_final or request.retry_at:
                return ()
            rows = await connection.execute(
                select(emails.kind, emails.addressee, emails.number).where(
                    emails.request_id == request_id, emails.state != EmailState.QUEUED
                )
            )
            done = {tuple(row) for row in rows}
        expected = closing_emails(
            request.status, request, customer_was_asked=request.customer_was_asked
        )
        return tuple(
            email
            for email in expected
            if (email.kind, email.to, email.number) not in done and not request.is_outdated(email)
        )
