"""The encrypted signing secrets of all webhook endpoints."""

import asyncio
from collections.abc import Callable

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.store import tables
from smart_accounts.store.database import transaction


class WebhookSecrets:
    """Replaces the secrets in the database. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def replace(self, replacement: Callable[[str], str | None]) -> None:
        """Replace each secret for which there is a replacement."""
        endpoints = tables.webhook_endpoints
        for column in (endpoints.c.sealed_secret, endpoints.c.previous_sealed_secret):
            async with transaction(self._engine, writes=False) as connection:
                stored = await connection.scalars(select(column).where(column.is_not(None)))
            for secret in stored.all():
                await asyncio.sleep(0)  # decrypting thousands must not delay other tasks
                if new := replacement(secret):
                    # A secret that was rotated meanwhile stays.
                    changed = update(endpoints).where(column == secret).values({column: new})
                    async with transaction(self._engine, writes=True) as connection:
                        await connection.execute(changed)
