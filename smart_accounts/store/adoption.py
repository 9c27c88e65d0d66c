"""Requests without an owner, and the person to whom they belong.

A request that came over Temporal names only the requester's address. It belongs to the first
person who signed in with that address, if the identity provider verified it.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, func, not_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.store import tables
from smart_accounts.store.audit import Action, Actor, Origin, record
from smart_accounts.store.database import insert_on_conflict, transaction


class Adoption:
    """Each method raises ``Unavailable`` if the database does not respond.

    The identity provider must have verified the address ``email``.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim_address(self, email: str, person: Identity, at: datetime) -> None:
        """Note who signed in with an address. The first person stays noted."""
        async with transaction(self._engine, writes=True) as connection:
            await _claim(connection, email, person, at)

    async def adopt(self, person: Identity, actor: Actor, origin: Origin, at: datetime) -> None:
        """Make a person the owner of the requests of their address that have no owner.

        This changes nothing if another person signed in with the address before. It costs one
        short query if there is nothing to adopt.
        """
        may_adopt = _may_adopt(actor.email, person)
        async with transaction(self._engine, writes=False) as connection:
            if not await connection.scalar(select(exists().where(may_adopt))):
                return
        async with transaction(self._engine, writes=True) as connection:
            await _claim(connection, actor.email, person, at)
            adopted = await connection.scalars(
                update(tables.requests)
                .where(may_adopt)
                .values(requester_issuer=person.issuer, requester_subject=person.subject)
                .returning(tables.requests.c.id)
            )
            for request_id in adopted.all():
                await record(connection, Action.ADOPT, actor, origin, at, request_id)


async def _claim(connection: AsyncConnection, email: str, person: Identity, at: datetime) -> None:
    await connection.execute(
        insert_on_conflict(connection, tables.address_owners)
        .values(email=email.lower(), issuer=person.issuer, subject=person.subject, since=at)
        .on_conflict_do_nothing()
    )


def _may_adopt(email: str, person: Identity) -> ColumnElement[bool]:
    """Return the condition for requests that the person may adopt."""
    requests, owners = tables.requests.c, tables.address_owners.c
    is_of_person = and_(owners.issuer == person.issuer, owners.subject == person.subject)
    return and_(
        requests.requester_subject.is_(None),
        func.lower(requests.requester_email) == email.lower(),
        not_(exists().where(owners.email == email.lower(), not_(is_of_person))),
    )
