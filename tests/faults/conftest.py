"""A Temporal server per test, so that a test can kill it, and randomness that can be repeated."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest
from temporalio.client import Client

from tests.support.programs import Program
from tests.support.service import Service
from tests.support.temporal_server import DevServer, NewDevServer, connect

RequestFor = Callable[[str], dict[str, Any]]


@pytest.fixture
def rng() -> Random:
    seed = os.environ.get("FAULTS_SEED") or str(SystemRandom().randrange(1_000_000))
    print(f"FAULTS_SEED={seed}")  # noqa: T201 - shown if the test fails
    return Random(seed)


@pytest.fixture
def request_for(example: dict[str, Any]) -> RequestFor:
    """Returns the example request with its own domain and its own requester."""

    def renamed(name: str) -> dict[str, Any]:
        text = json.dumps(example).replace("acme.example", f"{name}.example")
        request: dict[str, Any] = json.loads(text.replace("pat@", f"pat-{name}@"))
        return request

    return renamed


class CommitTraps:
    """Workers that stop after a step has committed and before Temporal learns the result."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    async def start_worker(self, service: Service) -> Program:
        program = Path(__file__).with_name("worker_that_stops_after_commit.py")
        return await service.start_worker(program, COMMIT_TRAPS=str(self._folder))

    def set(self, *steps: str) -> None:
        for step in steps:
            (self._folder / step).touch()

    async def wait_until_caught(self) -> dict[str, str]:
        """Wait until every trap has stopped a step. Return the id of the request by step."""
        async with asyncio.timeout(80):
            while True:
                requests = {trap.name: trap.read_text() for trap in self._folder.iterdir()}
                if all(requests.values()):
                    return requests
                await asyncio.sleep(0.05)

    def remove(self) -> None:
        for trap in self._folder.iterdir():
            trap.unlink()


@pytest.fixture
def commit_traps(tmp_path: Path) -> Iterator[CommitTraps]:
    traps = CommitTraps(tmp_path / "commit-traps")
    yield traps
    traps.remove()


@pytest.fixture
async def dev_server(new_dev_server: NewDevServer, tmp_path: Path) -> AsyncIterator[DevServer]:
    server = new_dev_server(tmp_path / "temporal.db")
    await server.start()
    yield server
    await server.stop(signal.SIGKILL)


@pytest.fixture
async def temporal(dev_server: DevServer) -> Client:
    return await connect(dev_server)
