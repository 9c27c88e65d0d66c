"""Lists of requests, of one partner or of all partners, in pages."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailStatus, Status
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.email_statuses import email_status
from smart_accounts.store.records import StoredRequest, stored_request
from smart_accounts.store.search import matches


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One line of a list. ``last_email`` is the email with the newest outcome."""

    request: StoredRequest
    last_email: EmailStatus | None


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a list. ``total`` counts the matching requests on all pages."""

    items: tuple[Listed, ...]
    total: int


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How many requests have a status, and when the oldest of them was made."""

    number: int
    oldest: datetime


class RequestListing:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def page(
        self,
        *,
        owner: Identity | None,
        status: Status | None = None,
        is_closed: bool | None = None,
        search: str = "",
        offset: int = 0,
        limit: int = 25,
    ) -> Page:
        """Return one page of requests, newest first.

        Without ``owner``, the list has the requests of all partners. ``is_closed`` is
        about the account. ``search`` is a part of the account's name or domain or of the customer's
        address. Case and invisible characters do not matter.
        """
        query = _query(owner, status, search, is_closed)
        async with transaction(self._engine, writes=False) as connection:
            ids = query.with_only_columns(tables.requests.c.id)
            total = await connection.scalar(select(func.count()).select_from(ids.subquery()))
            items = await _newest(connection, query.offset(offset).limit(limit))
        return Page(items=items, total=total or 0)

    async def batches(
        self,
        *,
        owner: Identity | None,
        status: Status | None = None,
        is_closed: bool | None = None,
        search: str = "",
        size: int,
    ) -> AsyncIterator[tuple[Listed, ...]]:
        """Yield all requests of the list in batches of ``size``, at least one batch.

        The other parameters are those of ``page``. If a new request is made meanwhile, no other
        request is repeated or left out.
        """
        requests = tables.requests.c
        query = rest = _query(owner, status, search, is_closed)
        while True:
            async with transaction(self._engine, writes=False) as connection:
                batch = await _newest(connection, rest.limit(size))
            yield batch
            if len(batch) < size:
                return
            last = batch[-1].request
            # The first condition lets the database begin in the middle of an index.
            rest = query.where(
                requests.requested_at <= last.requested_at,
                or_(requests.requested_at < last.requested_at, requests.id > last.id),
            )

    async def newest(
        self, workflow_id: str, *, owner: Identity | None, run_id: str | None = None
    ) -> StoredRequest | None:
        """Return the newest request with this workflow id, or the one with this run id."""
        requests = tables.requests.c
        query = _query(owner).where(requests.workflow_id == workflow_id)
        if run_id:
            query = query.where(requests.id == run_id)
        async with transaction(self._engine, writes=False) as connection:
            newest = query.order_by(requests.requested_at.desc()).limit(1)
            row = (await connection.execute(newest)).one_or_none()
            return stored_request(row) if row else None

    async def count_by_status(self) -> dict[Status, Counted]:
        """Return the number of requests with each status that occurs. An index has all of it."""
        requests = tables.requests.c
        query = select(requests.status, func.count(), func.min(requests.requested_at)).group_by(
            requests.status
        )
        async with transaction(self._engine, writes=False) as connection:
            rows = await connection.execute(query)
            return {Status(row[0]): Counted(number=row[1], oldest=row[2]) for row in rows}


async def _newest(connection: AsyncConnection, query: Select[tuple[object]]) -> tuple[Listed, ...]:
    """Return the requests that the query selects, newest first."""
    requests, emails = tables.requests.c, tables.emails.c
    newest = query.order_by(requests.requested_at.desc(), requests.id)
    rows = (await connection.execute(newest)).all()
    of_rows = emails.request_id.in_([row.id for row in rows])
    sent = await connection.execute(select(tables.emails).where(of_rows).order_by(emails.at))
    last = {email.request_id: email_status(email) for email in sent}
    return tuple(Listed(request=stored_request(row), last_email=last.get(row.id)) for row in rows)


def _query(
    owner: Identity | None,
    status: Status | None = None,
    search: str = "",
    is_closed: bool | None = None,
) -> Select[tuple[object]]:
    requests = tables.requests.c
    query = select(tables.requests)
    if owner is not None:
        query = query.where(
            requests.requester_issuer == owner.issuer, requests.requester_subject == owner.subject
        )
    if status is not None:
        query = query.where(requests.status == status)
    if is_closed is not None:
        closed_at = requests.closed_at
        query = query.where(closed_at.is_not(None) if is_closed else closed_at.is_(None))
    if search:
        query = query.where(matches(search))
    return query
