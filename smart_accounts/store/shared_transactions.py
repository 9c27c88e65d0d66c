"""Transactions that several calls share, because beginning and committing one costs the most."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.store.database import transaction

Call = TypeVar("Call")
Result = TypeVar("Result")
Work = Callable[[AsyncConnection, Sequence[Call]], Awaitable[Sequence[Result | Exception]]]
"""Does several calls in one transaction. Returns the result of each, or the error to raise."""


class SharedTransactions(Generic[Call, Result]):
    """Does the calls of one group together if they come at nearly the same time.

    A call joins its group until the group's transaction has begun. ``wait`` is the time from the
    first call of a group to its transaction.
    """

    def __init__(
        self, engine: AsyncEngine, work: Work[Call, Result], wait: timedelta = timedelta()
    ) -> None:
        self._engine = engine
        self._work = work
        self._wait = wait
        self._waiting: dict[str, list[tuple[Call, asyncio.Future[Result]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, group: str, call: Call) -> Result:
        """Return the call's result once its transaction is committed.

        Raises:
            Unavailable: the database does not respond.
            Exception: the error that the work gave for this call, or its own error.
        """
        if group not in self._waiting:
            self._waiting[group] = []
            task = asyncio.create_task(self._transact(group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[group].append((call, future))
        return await future

    async def _transact(self, group: str) -> None:
        calls: list[tuple[Call, asyncio.Future[Result]]] = []
        try:
            await asyncio.sleep(self._wait.total_seconds())
            async with transaction(self._engine, writes=True) as connection:
                calls = self._waiting.pop(group)
                results = await self._work(connection, [call for call, _ in calls])
        except Exception as error:  # noqa: BLE001 - each caller gets it
            calls = calls or self._waiting.pop(group)
            results = [error] * len(calls)
        for (_, future), result in zip(calls, results, strict=True):
            if future.done():
                continue  # its caller was cancelled
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
