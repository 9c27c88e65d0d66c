"""Lists of requests, of one partner or of all partners, in pages."""

from dataclasses import dataclass

from sqlalchemy import Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailStatus, Status
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.emails import email_status
from smart_accounts.store.records import StoredRequest, stored_request


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
        address. Case does not matter.
        """
        query = _query(owner, status, search)
        if is_closed is not None:
            closed_at = tables.requests.c.closed_at
            query = query.where(closed_at.is_not(None) if is_closed else closed_at.is_(None))
        requests = tables.requests.c
        async with transaction(self._engine, writes=False) as connection:
            total = await connection.scalar(
                select(func.count()).select_from(query.with_only_columns(requests.id).subquery())
            )
            newest = query.order_by(requests.requested_at.desc(), requests.id)
            rows = (await connection.execute(newest.offset(offset).limit(limit))).all()
            emails = await connection.execute(
                select(tables.emails)
                .where(tables.emails.c.request_id.in_([row.id for row in rows]))
                .order_by(tables.emails.c.at)
            )
            last = {email.request_id: email_status(email) for email in emails}
        items = tuple(
            Listed(request=stored_request(row), last_email=last.get(row.id)) for row in rows
        )
        return Page(items=items, total=total or 0)

    async def newest(
        self, workflow_id: str, *, owner: Identity | None, run_id: str | None = None
    ) -> StoredRequest | None:
        """Return the newest request with this workflow id, or the one with this run id."""
        requests = tables.requests.c
        query = _query(owner, None, "").where(requests.workflow_id == workflow_id)
        if run_id:
            query = query.where(requests.id == run_id)
        async with transaction(self._engine, writes=False) as connection:
            newest = query.order_by(requests.requested_at.desc()).limit(1)
            row = (await connection.execute(newest)).one_or_none()
            return stored_request(row) if row else None


def _query(owner: Identity | None, status: Status | None, search: str) -> Select[tuple[object]]:
    requests = tables.requests.c
    query = select(tables.requests)
    if owner is not None:
        query = query.where(
            requests.requester_issuer == owner.issuer, requests.requester_subject == owner.subject
        )
    if status is not None:
        query = query.where(requests.status == status)
    if search:
        columns = (requests.account_name, requests.account_domain, requests.customer_email)
        query = query.where(or_(*(each.icontains(search, autoescape=True) for each in columns)))
    return query
