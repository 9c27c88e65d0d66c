"""Purge requests that ended long ago: erase everyone in them.

What statistics need stays: names and domains of accounts, companies, statuses and times.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.messages import Status
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.records import ERASED, OPEN, ROLES, StoredRequest, stored_request
from smart_accounts.store.search import search_text

AT_ONCE = 50
EVENTS_AT_ONCE = 500


class Purge:
    """Each method raises ``Unavailable`` if the database is down.

    All but ``remove_old`` are one transaction each.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def ended(self, before: datetime, skipped: Collection[str]) -> Sequence[StoredRequest]:
        """Return some requests that ended before this moment and are not purged.

        An active account has ended once it is closed.
        """
        requests = tables.requests.c
        is_active = and_(requests.status == Status.ACTIVE, requests.closed_at.is_(None))
        ended_at = func.coalesce(requests.closed_at, requests.decided_at, requests.requested_at)
        query = (
            select(tables.requests)
            .where(
                requests.purged_at.is_(None),
                ended_at < before,
                requests.status.not_in(OPEN),
                not_(is_active),
                requests.id.not_in(skipped),
            )
            .order_by(requests.decided_at)
            .limit(AT_ONCE)
        )
        async with transaction(self._engine, writes=False) as connection:
            # Earlier releases stored no time of a rejection. One query for both cases would read
            # all requests that are not purged.
            for is_old in (requests.decided_at < before, requests.decided_at.is_(None)):
                if rows := (await connection.execute(query.where(is_old))).all():
                    return [stored_request(row) for row in rows]
        return []

    async def purge(self, ended: Sequence[StoredRequest], at: datetime) -> None:
        """Erase everyone in these requests, and remove their emails, webhooks and audit trail."""
        ids = [each.id for each in ended]
        requests, emails, users = tables.requests, tables.emails, tables.account_users
        deliveries = tables.webhook_deliveries
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(delete(deliveries).where(deliveries.c.request_id.in_(ids)))
            await connection.execute(delete(emails).where(emails.c.request_id.in_(ids)))
            await connection.execute(delete(users).where(users.c.account_id.in_(ids)))
            await _remove_events(connection, tables.audit_events.c.request_id.in_(ids))
            for each in ended:
                await connection.execute(
                    update(requests).where(requests.c.id == each.id).values(_purged(each, at))
                )

    async def remove_old(self, before: datetime) -> None:
        """Remove what is old and belongs to no request: drafts, sessions, events and partners."""
        drafts, sessions = tables.drafts, tables.sessions
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(delete(drafts).where(drafts.c.saved_at < before))
            await connection.execute(delete(sessions).where(sessions.c.began_at < before))
        await self._remove_old_events(before)
        async with transaction(self._engine, writes=True) as connection:
            for table in (tables.address_owners, tables.partners):
                await connection.execute(
                    delete(table).where(table.c.since < before, not_(_has_anything(table)))
                )

    async def _remove_old_events(self, before: datetime) -> None:
        events, last = tables.audit_events.c, 0
        is_stored = exists().where(tables.requests.c.id == events.request_id)
        found = select(events.id).where(events.at < before, not_(is_stored)).order_by(events.id)
        while True:
            # The search reads all old events, so it must not keep other writers waiting.
            async with transaction(self._engine, writes=False) as connection:
                query = found.where(events.id > last).limit(EVENTS_AT_ONCE)
                if not (ids := (await connection.scalars(query)).all()):
                    return
            async with transaction(self._engine, writes=True) as connection:
                await _remove_events(connection, and_(events.id.in_(ids), not_(is_stored)))
            last = ids[-1]


def _has_anything(table: Table) -> ColumnElement[bool]:
    """Return the condition for rows whose person has anything else in the store."""
    others = {
        tables.requests: ("requester_issuer", "requester_subject"),
        **dict.fromkeys((tables.people, tables.sessions, tables.drafts), ("issuer", "subject")),
    }
    return or_(
        *(
            exists().where(other.c[issuer] == table.c.issuer, other.c[subject] == table.c.subject)
            for other, (issuer, subject) in others.items()
        )
    )


async def _remove_events(connection: AsyncConnection, condition: ColumnElement[bool]) -> None:
    """Remove events, and the people of whom no event is left."""
    events, people = tables.audit_events, tables.people
    removed = await connection.scalars(
        delete(events).where(condition).returning(events.c.person_id)
    )
    has_events = exists().where(events.c.person_id == people.c.id)
    await connection.execute(
        delete(people).where(people.c.id.in_(set(removed.all())), not_(has_events))
    )


def _purged(request: StoredRequest, at: datetime) -> dict[str, Any]:
    """Return the new values of a purged request."""
    nothing = (
        "requester_issuer",
        "requester_subject",
        "idempotency_key",
        "note_to_customer",
        "note_to_added_users",
        "reason",
        "close_reason",
    )
    erased = dict.fromkeys(("customer_email", "requester_email", "requester_name"), ERASED)
    return (
        dict.fromkeys(nothing)
        | erased
        | {
            "added_users": [ERASED for _ in request.added_users],
            "decided_by": request.decided_by if request.decided_by in (None, *ROLES) else ERASED,
            "closed_by": None if request.closed_by is None else ERASED,
            "search_text": search_text(request.account_name, request.account_domain, ERASED),
            "erased_at": at,
            "purged_at": at,
        }
    )
