"""Measure many pending requests, and many deadlines that are due together.

Everything that was started is accounted for at the end: in the store, in Temporal and among the
emails.
"""

import asyncio
import json as json_format
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import func, select, text

from benchmarks.load import (
    EMAILS,
    OPENING_EMAILS,
    Handle,
    TemporalService,
    for_each,
    new_requests,
    percentile,
    run_jobs,
)
from benchmarks.servers import memory_bytes, postgresql, run
from benchmarks.variants import PRODUCT_POSTGRESQL, PRODUCT_SQLITE, Running, running
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.store import tables
from smart_accounts.store.database import create_engine, transaction

WARM_UP = 32
STALLED = 120  # seconds
SQLITE = "sqlite+aiosqlite:///"
LAPSED_EMAILS = 2  # to the customer and to the requester

Figures = dict[str, float]


def main(
    pending: Annotated[int, typer.Option(min=1, help="Requests that stay pending.")] = 20_000,
    due: Annotated[int, typer.Option(min=1, help="Deadlines that are due together.")] = 2_000,
    probes: Annotated[int, typer.Option(min=1, help="Accepted requests per latency.")] = 320,
    sqlite: Annotated[bool, typer.Option("--sqlite", help="Instead of PostgreSQL.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the service with many pending requests. No limit is reached."""
    figures, missing = run(_run(pending, due, probes, is_sqlite=sqlite))
    if json:
        print(json_format.dumps(figures, indent=2))
    else:
        for name, value in figures.items():
            print(f"{name:50} {value:12,.1f}")
    if missing:
        sys.exit("Not accounted for: " + "; ".join(missing))
    print("Every request and every email is accounted for.", file=sys.stderr)


async def _run(
    pending: int, due: int, probes: int, *, is_sqlite: bool
) -> tuple[Figures, list[str]]:
    variant = PRODUCT_SQLITE if is_sqlite else PRODUCT_POSTGRESQL
    with tempfile.TemporaryDirectory() as folder:
        async with postgresql() as postgres, running(variant, postgres, Path(folder)) as service:
            scale = Scale(service, Path(folder), probes)
            await scale.warm_up()
            await scale.measure_accepting("none pending")
            await scale.start_pending(pending)
            await scale.measure_accepting(f"{pending} pending")
            await scale.let_deadlines_pass(due)
            return scale.figures, await scale.missing(pending, due)


class Scale:
    """One run. ``figures`` grows with each step."""

    def __init__(self, run: Running, folder: Path, probes: int) -> None:
        assert isinstance(run.service, TemporalService)
        self._service: TemporalService = run.service
        self._run = run
        self._temporal_file = folder / "temporal.db"
        self._probes = probes
        self._requests: Iterator[SmartAccountRequest] = new_requests()
        self._emails = self._active = 0
        self._started: Handle
        self.figures: Figures = {}

    async def warm_up(self) -> None:
        await self._accept(WARM_UP)
        self._add("worker memory at the beginning, MB", self._worker_memory())

    async def measure_accepting(self, when: str) -> None:
        latencies = await self._accept(self._probes)
        self._add(f"accept p50 with {when}, ms", percentile(latencies, 0.5) * 1000)
        self._add(f"accept p99 with {when}, ms", percentile(latencies, 0.99) * 1000)

    async def start_pending(self, pending: int) -> None:
        temporal, store = self._temporal_size(), await self._store_size()
        began = time.perf_counter()
        await for_each(islice(self._requests, pending), self._start)
        await self._until_emails(pending * OPENING_EMAILS)
        self._add("starts per second", pending / (time.perf_counter() - began))
        await _until(lambda: self._count("ExecutionStatus = 'Running'"), pending)
        self._add("bytes of one history", await self._history_size())
        self._add("bytes per request in Temporal", (self._temporal_size() - temporal) / pending)
        self._add("bytes per request in the store", (await self._store_size() - store) / pending)
        self._add(f"worker memory with {pending} pending, MB", self._worker_memory())

    async def let_deadlines_pass(self, due: int) -> None:
        """Start requests whose deadlines are all at one moment, and wait until they have lapsed."""
        seconds_to_start = due / self.figures["starts per second"]
        deadline = datetime.now(UTC) + timedelta(seconds=10 + 2 * seconds_to_start)

        async def start(request: SmartAccountRequest) -> None:
            window = deadline - datetime.now(UTC)
            await self._start(request.model_copy(update={"acceptance_window": window}))

        await for_each(islice(self._requests, due), start)
        await self._until_emails(due * OPENING_EMAILS)
        remaining = deadline - datetime.now(UTC)
        if remaining < timedelta():
            sys.exit("The first deadlines passed before the last request was started.")
        await asyncio.sleep(remaining.total_seconds())
        await self._until_emails(due * LAPSED_EMAILS)
        drained = datetime.now(UTC) - deadline
        self._add("deadlines per second", due / drained.total_seconds())
        self._add("worker memory at the end, MB", self._worker_memory())

    async def missing(self, pending: int, due: int) -> list[str]:
        """Return what is not as it should be."""
        expected = {Status.PENDING: pending, Status.ACTIVE: self._active, Status.LAPSED: due}
        ended = self._active + due
        await _until(lambda: self._count("ExecutionStatus = 'Completed'"), ended)
        found = {
            "requests in the store": (await self._statuses(), expected),
            "open in Temporal": (await self._count("ExecutionStatus = 'Running'"), pending),
            "ended in Temporal": (await self._count("ExecutionStatus != 'Running'"), ended),
        }
        problem = self._run.sink.problem(self._emails)
        return [
            f"{name}: {actual} instead of {right}"
            for name, (actual, right) in found.items()
            if actual != right
        ] + ([problem] if problem else [])

    async def _start(self, request: SmartAccountRequest) -> None:
        self._started = await self._service.ask(request)

    async def _accept(self, number: int) -> list[float]:
        _, latencies = await run_jobs(self._service, islice(self._requests, number))
        self._active += number
        await self._until_emails(number * EMAILS)
        return latencies

    async def _until_emails(self, more: int) -> None:
        """Wait until so many more emails have arrived."""
        self._emails += more

        async def arrived() -> int:
            return self._run.sink.count()

        await _until(arrived, self._emails)

    async def _count(self, query: str) -> int:
        return (await self._service.client.count_workflows(query)).count

    async def _statuses(self) -> dict[str, int]:
        status = tables.requests.c.status
        engine = create_engine(self._run.database_url)
        async with transaction(engine, writes=False) as connection:
            rows = await connection.execute(select(status, func.count()).group_by(status))
            counted: dict[str, int] = dict(rows.all())
        await engine.dispose()
        return counted

    async def _history_size(self) -> int:
        """Return the size of the newest request's history. The others differ by a few bytes."""
        described = await self._started.describe()
        return described.raw_description.workflow_execution_info.history_size_bytes

    def _temporal_size(self) -> int:
        """Return the size of Temporal's file: histories, indexes, timers and visibility."""
        return _sqlite_size(self._temporal_file)

    async def _store_size(self) -> int:
        url = self._run.database_url
        if url.startswith(SQLITE):
            return _sqlite_size(Path(url.removeprefix(SQLITE)))
        engine = create_engine(url)
        async with engine.connect() as connection:
            size = await connection.scalar(text("SELECT pg_database_size(current_database())"))
        await engine.dispose()
        return int(size)

    def _worker_memory(self) -> float:
        return memory_bytes(self._run.pids["worker"]) / 1e6

    def _add(self, name: str, value: float) -> None:
        self.figures[name] = value
        print(f"{name}: {value:,.1f}", file=sys.stderr, flush=True)


async def _until(number: Callable[[], Awaitable[int]], expected: int) -> None:
    """Wait until a number is reached.

    It stops the benchmark if the number has not grown for ``STALLED`` seconds.
    """
    last, grown_at = -1, time.monotonic()
    while (now := await number()) < expected:
        if now > last:
            last, grown_at = now, time.monotonic()
        elif time.monotonic() > grown_at + STALLED:
            sys.exit(f"Only {now} of {expected} came. Nothing more came within {STALLED} s.")
        await asyncio.sleep(0.2)


def _sqlite_size(file: Path) -> int:
    """Return the size with what is still in the write-ahead log."""
    with closing(sqlite3.connect(file)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(size)


if __name__ == "__main__":
    typer.run(main)
