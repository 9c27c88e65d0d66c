"""Erase a person from the store. The rows stay where statistics and other people need them.

What is erased reads ``erased``, or is empty. Status, times and domains stay, and so does the
company of a requester, because neither says who a person is.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table, and_, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.errors import Rejected
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.mentions import mailboxes_in, text_columns
from smart_accounts.store.people import Person, find_person
from smart_accounts.store.records import ERASED, ROLES, StoredRequest, stored_request
from smart_accounts.store.traces import Involvement, Part, Traces, find_traces

REASON = "The data of a person in this request was erased at their request."
"""Why an open request is withdrawn. It stays, because it says nothing about the person."""
ARRIVED = "Something new about this person arrived meanwhile. Run the command again."

_ABOUT_ONE_PERSON = (
    tables.sessions,
    tables.drafts,
    tables.partners,
    tables.address_owners,
    tables.account_users,
    tables.webhook_endpoints,
)
# The text of a mail server's reply may name a person without their address.
_CODES = re.compile(r"(Refused for \d+ days: )?[245]\d\d([ -]+#?[245]\.\d{1,3}\.\d{1,3})?")


class Erasure:
    """Each method raises ``Unavailable`` if the database does not respond."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, its_mailbox: str, until: datetime | None = None) -> Traces:
        """Return everything about the person with this mailbox, or only what is older."""
        async with transaction(self._engine, writes=False) as connection:
            person = await find_person(connection, its_mailbox, until)
            return await find_traces(connection, person)

    async def erase(
        self, person: Person, request_ids: Collection[str], at: datetime
    ) -> Counter[str]:
        """Erase the person. Returns how many rows of each table were changed or removed.

        ``request_ids`` are the requests whose histories are deleted.

        Raises:
            Rejected: the person is part of another request too, which must end first.
        """
        # The search reads every table, so it must not keep other writers of SQLite waiting.
        async with transaction(self._engine, writes=False) as connection:
            found = await find_traces(connection, person)
        handled = {each.request.id for each in found.ended} <= set(request_ids)
        if not handled or any(
            each.must_be_withdrawn or each.must_be_closed for each in found.requests
        ):
            raise Rejected(ARRIVED)
        async with transaction(self._engine, writes=True) as connection:
            for involved in found.ended:
                await _erase_request(connection, involved, person, at)
            for table in tables.metadata.sorted_tables:
                if table is not tables.requests:
                    await _erase_rows(connection, table, found)
            # After the endpoints, in the order in which a try is recorded. Otherwise both could
            # wait for each other.
            await _delete_deliveries(connection, found)
        return Counter({name: len(rows) for name, rows in found.rows.items() if rows})

    async def mailboxes(self, is_wanted: Callable[[str], bool]) -> set[str]:
        """Return those mailboxes of the store that are wanted. This reads every row."""
        wanted: set[str] = set()
        async with transaction(self._engine, writes=False) as connection:
            for table in tables.metadata.sorted_tables:
                if columns := text_columns(table):
                    rows = await connection.stream(
                        select(*columns), execution_options={"yield_per": 1000}
                    )
                    async for row in rows:
                        for value in row:
                            wanted.update(filter(is_wanted, mailboxes_in(value)))
        return wanted

    async def erased_requests(self) -> AsyncIterator[StoredRequest]:
        """Yield the requests whose histories were deleted."""
        requests, last = tables.requests, ""
        is_erased = requests.c.erased_at.is_not(None)  # a purge sets this too
        query = select(requests).where(is_erased).order_by(requests.c.id).limit(500)
        while True:
            async with transaction(self._engine, writes=False) as connection:
                rows = (await connection.execute(query.where(requests.c.id > last))).all()
            for row in rows:
                yield stored_request(row)
            if not rows:
                return
            last = rows[-1].id


async def _erase_request(
    connection: AsyncConnection, involved: Involvement, person: Person, at: datetime
) -> None:
    requests, parts = tables.requests, involved.parts
    is_it = requests.c.id == involved.request.id
    query = select(requests).where(is_it).with_for_update(key_share=True)
    row = (await connection.execute(query)).one()
    values = _without_mentions(requests, row, person)
    if Part.REQUESTER in parts:
        keys = tables.idempotency_keys
        await connection.execute(delete(keys).where(keys.c.key == row.idempotency_key))
        values |= dict.fromkeys(("requester_issuer", "requester_subject", "idempotency_key"))
        values |= {"requester_email": ERASED, "requester_name": ERASED}
    if Part.APPROVER in parts and row.decided_by and row.decided_by not in ROLES:
        values["decided_by"] = ERASED
    if {Part.REQUESTER, Part.APPROVER} & parts:
        values |= dict.fromkeys(("note_to_customer", "note_to_added_users", "close_reason"))
        values["reason"] = row.reason if row.reason == REASON else None
    if row.closed_by in person.subjects:
        values["closed_by"] = ERASED
    values["erased_at"] = at
    await connection.execute(update(requests).where(is_it).values(values))


async def _delete_deliveries(connection: AsyncConnection, found: Traces) -> None:
    """Delete the events of the requests, because a part of a signed text cannot be erased."""
    deliveries = tables.webhook_deliveries
    for involved in found.ended:
        is_about_it = deliveries.c.request_id == involved.request.id
        await connection.execute(delete(deliveries).where(is_about_it))


async def _erase_rows(connection: AsyncConnection, table: Table, found: Traces) -> None:
    person = found.person
    people = {row.id for row in found.rows["people"] if person.owns(tables.people, row)}
    for known in found.rows[table.name]:
        is_it = and_(*(column == getattr(known, column.key) for column in table.primary_key))
        # Read it again, because somebody may have changed it since the search.
        query = select(table).where(is_it).with_for_update(key_share=True)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            continue
        if table in _ABOUT_ONE_PERSON and person.owns(table, row):
            await connection.execute(delete(table).where(is_it))
            continue
        if values := _erased_values(table, row, person, people):
            await connection.execute(update(table).where(is_it).values(values))


def _erased_values(
    table: Table, row: Row[Any], person: Person, people: Collection[int]
) -> dict[str, Any]:
    if table is tables.people and row.id in people:
        return dict.fromkeys(("issuer", "subject", "email", "name"))
    values = _without_mentions(table, row, person)
    if table is tables.audit_events and row.person_id in people:
        values |= dict.fromkeys(("client_address", "user_agent"))
    if table is tables.emails and person.has(row.recipient):
        # Without its return path, a late bounce is not recorded with the address in its text.
        values |= {"recipient": ERASED, "return_token_hash": None}
        values["mailbox"] = ERASED if row.mailbox else None
        values["answer"] = _codes(row.answer) if row.answer else None
    return values


def _without_mentions(table: Table, row: Row[Any], person: Person) -> dict[str, Any]:
    """Return new values for the columns that name the person."""
    values = {column.key: getattr(row, column.key) for column in text_columns(table)}
    return {
        key: without
        for key, value in values.items()
        if (without := person.mentions.removed(value)) != value and not table.c[key].primary_key
    }


def _codes(reply: str) -> str:
    """Return the codes that a mail server's reply begins with."""
    found = _CODES.match(reply)
    return found[0] if found else ERASED
