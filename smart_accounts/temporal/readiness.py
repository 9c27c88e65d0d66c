"""Whether worker and web can use what they depend on: Temporal and the database."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from smart_accounts.errors import Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient

CHECK_SECONDS = 2
OK, DOWN = "ok", "down"


async def check_dependencies(client: RequestClient, store: AccountStore) -> dict[str, str]:
    """Return ``ok`` or ``down`` for each. The database must be migrated and writable."""
    temporal, database = await asyncio.gather(_state(client.check), _state(store.ping))
    return {"temporal": temporal, "database": database}


class DependencyCheck:
    """Checks at most once within ``CHECK_EVERY`` seconds, however often anybody asks."""

    CHECK_EVERY = 1.0

    def __init__(self, client: RequestClient, store: AccountStore) -> None:
        self._client = client
        self._store = store
        self._lock = asyncio.Lock()
        self._checked_at = -math.inf
        self._states: dict[str, str] = {}

    async def states(self) -> dict[str, str]:
        async with self._lock:
            if time.monotonic() >= self._checked_at + self.CHECK_EVERY:
                self._states = await check_dependencies(self._client, self._store)
                self._checked_at = time.monotonic()
        return self._states


async def _state(check: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except (Unavailable, TimeoutError):
        return DOWN
    return OK


class WorkerReadiness:
    """Whether the worker is ready: not before it runs, and not once it has been told to stop."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._running: tuple[Callable[[], bool], RequestClient, AccountStore] | None = None

    def set_running(
        self, is_running: Callable[[], bool], client: RequestClient, store: AccountStore
    ) -> None:
        self._running = is_running, client, store

    async def check(self) -> dict[str, str]:
        if self._running is None or self._stop.is_set():
            return {"worker": DOWN}
        is_running, client, store = self._running
        states = await check_dependencies(client, store)
        return states | {"worker": OK if is_running() else DOWN}
