"""A person in the store: their addresses and their sign-ins."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, exists, false, not_, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.identity import Identity, identity_of
from smart_accounts.store import tables
from smart_accounts.store.mentions import Mentions

# The columns with a person's issuer and subject, and with the address that they signed in with.
_SIGN_INS = {
    tables.requests: ("requester_issuer", "requester_subject", "requester_email"),
    tables.people: ("issuer", "subject", "email"),
    tables.sessions: ("issuer", "subject", "email"),
    tables.drafts: ("issuer", "subject", "email"),
    tables.address_owners: ("issuer", "subject", "email"),
    tables.webhook_endpoints: ("issuer", "subject", "owner_email"),
    tables.partners: ("issuer", "subject", None),
}

# The column with the time when a row was made, or with the request that is as old as the row.
_MADE_AT = {
    tables.requests: "requested_at",
    tables.sessions: "began_at",
    tables.drafts: "saved_at",
    tables.address_owners: "since",
    tables.partners: "since",
    tables.audit_events: "at",
    tables.idempotency_keys: "at",
    tables.webhook_endpoints: "created_at",
}
REQUEST_OF = {
    tables.emails: "request_id",
    tables.accounts: "id",
    tables.account_users: "account_id",
    tables.webhook_deliveries: "request_id",
}


@dataclass(frozen=True, kw_only=True)
class Person:
    """The mailboxes and the identities of one person.

    Everyone who signed in with the mailbox that was asked for counts as this person. With
    ``until``, only what was made until then counts, because the person has come back later.
    """

    mailboxes: frozenset[str]
    identities: frozenset[Identity]
    until: datetime | None = None

    @cached_property
    def mentions(self) -> Mentions:
        return Mentions(self.mailboxes)

    @property
    def subjects(self) -> set[str]:
        return {each.subject for each in self.identities}

    def owns(self, table: Table, row: Row[Any]) -> bool:
        """Return True if the row is about a sign-in or a mailbox of the person."""
        if names := _SIGN_INS.get(table):
            issuer, subject, email = names
            if identity_of(getattr(row, issuer), getattr(row, subject)) in self.identities:
                return True
            return email is not None and self.has(getattr(row, email))
        return "email" in table.c and self.has(row.email)

    def has(self, address: str | None) -> bool:
        return address is not None and mailbox(address) in self.mailboxes


async def find_person(
    connection: AsyncConnection, its_mailbox: str, until: datetime | None = None
) -> Person:
    """Return the person with a mailbox, with all other mailboxes that they signed in with."""
    mentions = Mentions([its_mailbox])
    identities: set[Identity] = set()
    addresses: set[str] = {its_mailbox}
    for table in _SIGN_INS:
        condition = and_(mentions.may_be_in(table), made_until(table, until))
        for identity, address in await _sign_ins(connection, table, condition):
            if identity and mailbox(address) == its_mailbox:
                identities.add(identity)
    for table in _SIGN_INS:
        condition = and_(is_of(table, identities), made_until(table, until))
        for _, address in await _sign_ins(connection, table, condition):
            addresses.add(mailbox(address))
    return Person(mailboxes=frozenset(addresses), identities=frozenset(identities), until=until)


async def _sign_ins(
    connection: AsyncConnection, table: Table, condition: ColumnElement[bool]
) -> list[tuple[Identity | None, str]]:
    issuer, subject, email = _SIGN_INS[table]
    if email is None:
        return []
    rows = await connection.execute(
        select(table.c[issuer], table.c[subject], table.c[email]).where(
            condition, table.c[email].is_not(None)
        )
    )
    return [(identity_of(row[0], row[1]), row[2]) for row in rows]


def made_until(table: Table, until: datetime | None) -> ColumnElement[bool]:
    """Return the condition for rows made until then, without people who have acted since."""
    events, requests = tables.audit_events.c, tables.requests.c
    if until is None:
        return true()
    if table is tables.people:
        return not_(exists().where(events.person_id == tables.people.c.id, events.at > until))
    if key := REQUEST_OF.get(table):
        return exists().where(requests.id == table.c[key], requests.requested_at <= until)
    made_at = _MADE_AT.get(table)
    return table.c[made_at] <= until if made_at else true()


def is_of(table: Table, identities: Collection[Identity]) -> ColumnElement[bool]:
    """Return the condition for rows of one of the identities."""
    if table not in _SIGN_INS or not identities:
        return false()
    issuer, subject, _ = _SIGN_INS[table]
    pairs = [(each.issuer, each.subject) for each in identities]
    return tuple_(table.c[issuer], table.c[subject]).in_(pairs)
