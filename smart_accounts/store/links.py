"""Activation links. The store keeps the SHA-256 of each token, never the token."""

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.records import ActivationLink, stored_request


class ActivationLinks:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def hash_of(self, request_id: str, ordinal: int) -> str | None:
        links = tables.activation_links.c
        async with transaction(self._engine, writes=False) as connection:
            found: str | None = await connection.scalar(
                select(links.token_hash).where(
                    links.request_id == request_id, links.ordinal == ordinal
                )
            )
            return found

    async def save(self, request_id: str, ordinal: int, token_hash: str) -> None:
        """Store the hash that identifies the link from now on. It replaces an earlier hash."""
        links = tables.activation_links
        async with transaction(self._engine, writes=True) as connection:
            key = (links.c.request_id == request_id, links.c.ordinal == ordinal)
            changed = await connection.execute(
                update(links).where(*key).values(token_hash=token_hash)
            )
            if not changed.rowcount:
                await connection.execute(
                    insert(links).values(
                        request_id=request_id, ordinal=ordinal, token_hash=token_hash
                    )
                )

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
