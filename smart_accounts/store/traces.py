"""What the store has about a person, and what the person is in each request."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, Table, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.store import tables
from smart_accounts.store.audit import Role
from smart_accounts.store.mentions import text_columns
from smart_accounts.store.people import REQUEST_OF, Person, is_of, made_until
from smart_accounts.store.records import OPEN, AccountState, StoredRequest, stored_request

IDS_AT_ONCE = 500

Rows = dict[str, list[Row[Any]]]
"""Rows by the name of their table."""


class Part(StrEnum):
    """What a person is in a request."""

    REQUESTER = "requester"
    APPROVER = "approver"
    ADDED_USER = "added user"
    NAMED = "named"
    """An earlier approver, or somebody whom a note, a reason or an email's reply names."""
    OPERATOR = "operator"
    """An operator who acted on the request."""


@dataclass(frozen=True, kw_only=True)
class Involvement:
    """A request, and what the person is in it."""

    request: StoredRequest
    parts: frozenset[Part]

    @property
    def must_be_withdrawn(self) -> bool:
        """True if the history of an open request names the person, and will for weeks."""
        return self.request.status in OPEN and self.parts != {Part.OPERATOR}

    @property
    def must_be_closed(self) -> bool:
        """True if the person is the approver of an active account."""
        is_active = self.request.account_state is AccountState.ACTIVE
        return is_active and Part.APPROVER in self.parts

    @property
    def stays_open(self) -> bool:
        """True if the person only acted as an operator on an open request."""
        return self.request.status in OPEN and self.parts == {Part.OPERATOR}


@dataclass(frozen=True, kw_only=True)
class Traces:
    """Everything in the store that names a person."""

    person: Person
    requests: tuple[Involvement, ...]
    rows: Rows

    @property
    def ended(self) -> tuple[Involvement, ...]:
        """The requests that can be erased."""
        return tuple(
            each for each in self.requests if not each.must_be_withdrawn and not each.stays_open
        )

    @property
    def are_there(self) -> bool:
        return any(self.rows.values())


async def find_traces(connection: AsyncConnection, person: Person) -> Traces:
    """Return what the store has about a person."""
    rows = {
        table.name: await _rows_about(connection, table, person)
        for table in tables.metadata.sorted_tables
    }
    own = [row.id for row in rows["people"] if person.owns(tables.people, row)]
    events = await _events_of(connection, own)
    parts: dict[str, set[Part]] = {}
    for request_id, part in _parts(rows, events, person):
        parts.setdefault(request_id, set()).add(part)
    for request_id in await _closed_by(connection, person):
        parts.setdefault(request_id, set()).add(Part.OPERATOR)
    known = [
        Involvement(request=request, parts=frozenset(parts[request.id]))
        for request in await _requests(connection, parts)
    ]
    audit = {row.id: row for row in (*rows["audit_events"], *events)}
    rows["audit_events"] = list(audit.values())
    return Traces(person=person, requests=tuple(known), rows=rows)


def _parts(rows: Rows, events: Iterable[Row[Any]], person: Person) -> Iterator[tuple[str, Part]]:
    for row in rows["requests"]:
        yield from ((row.id, part) for part in _parts_in_request(row, person))
    for table, key in REQUEST_OF.items():
        ids = [getattr(row, key) for row in rows[table.name]]
        yield from ((each, Part.NAMED) for each in ids if each)  # a test event has no request
    for row in rows["audit_events"]:
        if row.request_id:
            yield row.request_id, Part.NAMED
    for row in events:
        if row.request_id:
            is_operator = row.role == Role.OPERATOR
            yield row.request_id, Part.OPERATOR if is_operator else Part.NAMED


def _parts_in_request(row: Row[Any], person: Person) -> Iterator[Part]:
    if person.has(row.requester_email) or person.owns(tables.requests, row):
        yield Part.REQUESTER
    if person.has(row.customer_email):
        yield Part.APPROVER
    if any(map(person.has, row.added_users)):
        yield Part.ADDED_USER
    others = (row.requester_email, row.customer_email, row.search_text, row.added_users)
    if any(person.mentions.are_in(value) for value in row if value not in others):
        yield Part.NAMED


async def _rows_about(connection: AsyncConnection, table: Table, person: Person) -> list[Row[Any]]:
    condition = or_(person.mentions.may_be_in(table), is_of(table, person.identities))
    found = await connection.execute(
        select(table).where(condition, made_until(table, person.until))
    )
    return [row for row in found if person.owns(table, row) or _names(table, row, person)]


def _names(table: Table, row: Row[Any], person: Person) -> bool:
    return any(
        person.mentions.are_in(row._mapping[column])  # noqa: SLF001 - SQLAlchemy's public name for it
        for column in text_columns(table)
        if column is not tables.requests.c.search_text  # it only repeats other columns
    )


async def _events_of(connection: AsyncConnection, people: Sequence[int]) -> list[Row[Any]]:
    events = tables.audit_events
    found: list[Row[Any]] = []
    for ids in batches(people):
        found += await connection.execute(select(events).where(events.c.person_id.in_(ids)))
    return found


async def _closed_by(connection: AsyncConnection, person: Person) -> Sequence[str]:
    requests = tables.requests.c
    closed = select(requests.id).where(
        requests.closed_by.in_(person.subjects), made_until(tables.requests, person.until)
    )
    return (await connection.scalars(closed)).all()


async def _requests(
    connection: AsyncConnection, request_ids: Collection[str]
) -> list[StoredRequest]:
    requests = tables.requests
    found: list[StoredRequest] = []
    for ids in batches(list(request_ids)):
        rows = await connection.execute(select(requests).where(requests.c.id.in_(ids)))
        found += map(stored_request, rows)
    return sorted(found, key=lambda each: (each.requested_at, each.id))


def batches(ids: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the ids in parts, because databases limit the number of parameters."""
    for start in range(0, len(ids), IDS_AT_ONCE):
        yield ids[start : start + IDS_AT_ONCE]
