"""The variants of the whole job, and one round of each."""

import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.load import (
    EMAILS,
    BareService,
    PeerService,
    Service,
    TemporalService,
    new_requests,
    percentile,
    run_jobs,
)
from benchmarks.servers import (
    ROOT,
    MailSink,
    cpu_seconds,
    mail_sink,
    python,
    service_settings,
    temporal_server,
)
from tests.support.histories import count_actions
from tests.support.postgres import Postgres
from tests.support.temporal_server import connect


@dataclass(frozen=True)
class Variant:
    name: str
    command: tuple[str, ...]
    """The arguments of Python for the worker."""
    database: str | None = None
    has_temporal: bool = True

    @property
    def emails(self) -> int:
        """How many emails a request sends."""
        return EMAILS if self.database else 0


FLOOR_WAIT = Variant("floor-wait", ("-m", "benchmarks.floors", "wait"))
FLOOR_SHAPE = Variant("floor-shape", ("-m", "benchmarks.floors", "shape"))
PRODUCT_POSTGRESQL = Variant("product-postgresql", (str(ROOT / "worker.py"),), "postgresql")
PRODUCT_SQLITE = Variant("product-sqlite", (str(ROOT / "worker.py"),), "sqlite")
DBOS = Variant("dbos", ("-m", "benchmarks.dbos_peer", "socket"), "postgresql", has_temporal=False)
VARIANTS = (FLOOR_WAIT, FLOOR_SHAPE, PRODUCT_POSTGRESQL, PRODUCT_SQLITE, DBOS)


@dataclass(frozen=True)
class Round:
    """What was measured in one round of one variant. CPU time is in milliseconds per request."""

    variant: str
    requests_per_second: float
    cpu: Mapping[str, float]
    accept_p50: float
    accept_p99: float
    events: Mapping[int, int] = field(default_factory=dict)
    """For each number of events that occurred: how many requests had so many."""
    actions: Mapping[int, int] = field(default_factory=dict)

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


@dataclass(frozen=True)
class Running:
    """A variant whose programs run."""

    service: Service[Any]
    pids: Mapping[str, int]
    sink: MailSink
    database_url: str

    def cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}


async def measure(variant: Variant, postgres: Postgres, requests: int, warm_up: int) -> Round:
    """Start the programs of a variant, make and accept requests, and stop the programs."""
    with tempfile.TemporaryDirectory() as folder:
        async with running(variant, postgres, Path(folder)) as run:
            made = new_requests()
            await run_jobs(run.service, islice(made, warm_up))
            before, began = run.cpu(), time.perf_counter()
            asked, latencies = await run_jobs(run.service, islice(made, requests))
            seconds, after = time.perf_counter() - began, run.cpu()
            if problem := run.sink.problem((warm_up + requests) * variant.emails):
                raise RuntimeError(f"{variant.name}: {problem}")
            histories = [await each.fetch_history() for each in asked if variant.has_temporal]
    return Round(
        variant=variant.name,
        requests_per_second=requests / seconds,
        cpu={name: (after[name] - before[name]) * 1000 / requests for name in before},
        accept_p50=percentile(latencies, 0.5) * 1000,
        accept_p99=percentile(latencies, 0.99) * 1000,
        events=dict(Counter(len(history.events) for history in histories)),
        actions=dict(Counter(count_actions(history.events) for history in histories)),
    )


@asynccontextmanager
async def running(variant: Variant, postgres: Postgres, folder: Path) -> AsyncIterator[Running]:
    """Run the programs of a variant with an empty database."""
    async with AsyncExitStack() as programs:
        sink = await programs.enter_async_context(mail_sink(folder))
        pids = {"sink": sink.pid} if variant.emails else {}
        server = None
        if variant.has_temporal:
            server = await programs.enter_async_context(temporal_server(folder))
            pids["server"] = server.pid
        url = f"sqlite+aiosqlite:///{folder / 'store.db'}"
        if variant.database == "postgresql":
            url, pids["database"] = postgres.new_database(), postgres.pid
        pids["worker"] = await programs.enter_async_context(
            python(
                "worker",
                *variant.command,
                folder=folder,
                ready="worker ready",
                environment=service_settings(server, url, sink.port),
            )
        )
        if server is None:
            service: Service[Any] = PeerService(folder / "socket", sink)
        else:
            client = await connect(server)
            product = TemporalService(client, sink if variant.emails else None)
            service = BareService(client) if variant is FLOOR_WAIT else product
        yield Running(service, pids, sink, url)
