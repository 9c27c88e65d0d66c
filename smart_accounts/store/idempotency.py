"""Idempotency keys: the call that each key was first used for."""

from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.records import StoredRequest, stored_request

KEPT = timedelta(days=100)  # longer than a request with the default acceptance window is open
PURGED_AT_ONCE = 10


class IdempotencyKeys:
    """Each method raises ``Unavailable`` if the database does not respond.

    ``key`` and ``call`` are SHA-256 digests. The key's digest includes the requester, because
    two requesters may choose the same key.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def call_of(self, key: str) -> str | None:
        """Return the call that the key was first used for, or None."""
        keys = tables.idempotency_keys.c
        async with transaction(self._engine, writes=False) as connection:
            call: str | None = await connection.scalar(select(keys.call).where(keys.key == key))
            return call

    async def claim(self, key: str, call: str, at: datetime) -> str:
        """Reserve the key for a call. Returns the call that has the key, maybe an earlier one."""
        keys = tables.idempotency_keys
        with suppress(IntegrityError):  # a concurrent call was first
            async with transaction(self._engine, writes=True) as connection:
                await connection.execute(insert(keys).values(key=key, call=call, at=at))
                expired = select(keys.c.key).where(keys.c.at < at - KEPT).limit(PURGED_AT_ONCE)
                await connection.execute(delete(keys).where(keys.c.key.in_(expired)))
        return await self.call_of(key) or call

    async def release(self, key: str) -> None:
        """Forget a key whose call started nothing."""
        keys = tables.idempotency_keys
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(delete(keys).where(keys.c.key == key))

    async def find_request(self, owner: Identity, key: str) -> StoredRequest | None:
        """Return the request that a requester made with a key."""
        requests = tables.requests.c
        async with transaction(self._engine, writes=False) as connection:
            found = await connection.execute(
                select(tables.requests).where(
                    requests.idempotency_key == key,
                    requests.requester_issuer == owner.issuer,
                    requests.requester_subject == owner.subject,
                )
            )
            row = found.first()
            return stored_request(row) if row else None
