"""Measure how long a worker takes from its start to its first poll of Temporal.

The CPU time depends less on what else the machine does than the time that passes.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from benchmarks.judge import Spread
from benchmarks.servers import (
    ROOT,
    cpu_seconds,
    run,
    service_settings,
    start_python,
    temporal_server,
)
from smart_accounts.contract.names import TASK_QUEUE
from tests.support.programs import stop_process
from tests.support.temporal_server import connect

LOOK_EVERY = 0.01


def main(
    starts: Annotated[int, typer.Option(min=1, help="How many starts are measured.")] = 7,
) -> None:
    """Measure the start of a worker on a database that is already migrated."""
    measured = run(measure(starts))
    passed = Spread.of(seconds for seconds, _ in measured)
    used = Spread.of(cpu for _, cpu in measured)
    print(f"start to first poll: {passed.show(2)} s, {used.show(2)} s of CPU time, {starts} starts")


async def measure(starts: int) -> list[tuple[float, float]]:
    """Return the seconds and the CPU seconds of each start."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with temporal_server(folder) as server:
            client = await connect(server)
            url = f"sqlite+aiosqlite:///{folder / 'store.db'}"
            settings = service_settings(server, url, smtp_port=25)
            await _start(client, folder, settings)  # migrates the database
            return [await _start(client, folder, settings) for _ in range(starts)]


async def _start(client: Client, folder: Path, settings: dict[str, str]) -> tuple[float, float]:
    log = folder / "worker.log"
    began = time.perf_counter()
    process = start_python(str(ROOT / "worker.py"), folder=folder, log=log, environment=settings)
    try:
        while not await _polls(client, process.pid):
            if process.poll() is not None:
                sys.exit(f"the worker exited. Its log: {log.read_text()}")
            await asyncio.sleep(LOOK_EVERY)
        return time.perf_counter() - began, cpu_seconds(process.pid)
    finally:
        await stop_process(process)


async def _polls(client: Client, pid: int) -> bool:
    """Return True if this process has polled for a workflow task."""
    queue = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=TASK_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return any(poller.identity.startswith(f"{pid}@") for poller in queue.pollers)


if __name__ == "__main__":
    typer.run(main)
