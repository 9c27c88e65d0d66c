"""Which call an idempotency key was first used for."""

from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.store import tables
from smart_accounts.store.database import transaction

KEPT = timedelta(days=100)  # longer than a request is open


class IdempotencyKeys:
    """Each method raises ``Unavailable`` if the database does not answer.

    ``key`` and ``call`` are digests: a key names its user too, and may hold whatever a client
    made it of.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def call_of(self, key: str) -> str | None:
        keys = tables.idempotency_keys.c
        async with transaction(self._engine, writes=False) as connection:
            call: str | None = await connection.scalar(select(keys.call).where(keys.key == key))
            return call

    async def claim(self, key: str, call: str, at: datetime) -> str:
        """Take the key for a call; answers the call that has it, which is the first one."""
        keys = tables.idempotency_keys
        with suppress(IntegrityError):  # another was faster
            async with transaction(self._engine, writes=True) as connection:
                await connection.execute(insert(keys).values(key=key, call=call, at=at))
                if key.startswith("00"):  # one in 256: nothing but the key itself is indexed
                    await connection.execute(delete(keys).where(keys.c.at < at - KEPT))
        return await self.call_of(key) or call
