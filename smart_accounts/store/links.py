"""Activation links. The store keeps the SHA-256 of each token, never the token."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.store import tables
from smart_accounts.store.database import insert_on_conflict, transaction
from smart_accounts.store.records import ActivationLink, stored_request


class ActivationLinks:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, token_hash: str) -> ActivationLink | None:
        links = tables.activation_links.c
        async with transaction(self._engine, writes=False) as connection:
            found = await connection.execute(
                select(tables.requests, links.ordinal)
                .join(tables.activation_links, links.request_id == tables.requests.c.id)
                .where(links.token_hash == token_hash)
            )
            row = found.one_or_none()
            return ActivationLink(ordinal=row.ordinal, request=stored_request(row)) if row else None


async def save_link(
    connection: AsyncConnection, request_id: str, ordinal: int, token_hash: str
) -> None:
    """Store the hash that identifies the link from now on. It replaces an earlier hash."""
    key = {"request_id": request_id, "ordinal": ordinal}
    await connection.execute(
        insert_on_conflict(connection, tables.activation_links)
        .values(**key, token_hash=token_hash)
        .on_conflict_do_update(index_elements=[*key], set_={"token_hash": token_hash})
    )
