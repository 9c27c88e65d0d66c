"""A server of its own for each test, to be killed, and chance that can be had again."""

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
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.support.programs import Program


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture
def chance() -> Random:
    seed = os.environ.get("FAULTS_SEED") or str(SystemRandom().randrange(1_000_000))
    print(f"FAULTS_SEED={seed}")  # noqa: T201 - shown when the test fails
    return Random(seed)


@pytest.fixture
def wish(example: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """The example as the wish of other people, for a domain of their own."""

    def of(name: str) -> dict[str, Any]:
        text = json.dumps(example).replace("acme.example", f"{name}.example")
        request: dict[str, Any] = json.loads(text.replace("pat@", f"pat-{name}@"))
        return request

    return of


class Commits:
    """Workers that stop between a step's commit and their word of it to Temporal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    async def worker(self, service: Any) -> Program:
        program = Path(__file__).with_name("worker_that_stops_after_commit.py")
        worker: Program = await service.worker(program, COMMITS=str(self._folder))
        return worker

    def arm(self, *steps: str) -> None:
        for step in steps:
            (self._folder / step).touch()

    async def stopped(self) -> dict[str, str]:
        """By step: the request with which it stopped, once all have."""
        async with asyncio.timeout(80):
            while True:
                requests = {trap.name: trap.read_text() for trap in self._folder.iterdir()}
                if all(requests.values()):
                    return requests
                await asyncio.sleep(0.05)

    def disarm(self) -> None:
        for trap in self._folder.iterdir():
            trap.unlink()


@pytest.fixture
def commits(tmp_path: Path) -> Iterator[Commits]:
    traps = Commits(tmp_path / "commits")
    yield traps
    traps.disarm()


@pytest.fixture
async def dev_server(new_dev_server: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Any]:
    server = new_dev_server(tmp_path / "temporal.db")
    await server.up()
    yield server
    await server.down(signal.SIGKILL)


@pytest.fixture
async def temporal(dev_server: Any) -> Client:
    return await Client.connect(dev_server.address, data_converter=pydantic_data_converter)
