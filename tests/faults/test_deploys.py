"""Deploys and rollbacks under load, with the programs that production runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from random import Random

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import TASK_QUEUE
from smart_accounts.temporal.records import Started
from tests.faults.conftest import RequestFor
from tests.support.programs import Program, stop_process
from tests.support.service import Service

NAME = "smart-accounts"
STUCK = "TemporalReportedProblems IS NOT NULL AND ExecutionStatus = 'Running'"


def variables(build_id: str) -> dict[str, str]:
    if not build_id:
        return {}
    return {"TEMPORAL_DEPLOYMENT_NAME": NAME, "TEMPORAL_WORKER_BUILD_ID": build_id}


class Load:
    """Starts requests all the time, and lets half of the customers answer at once."""

    def __init__(self, service: Service, request_for: RequestFor, rng: Random) -> None:
        self._service, self._request_for, self._rng = service, request_for, rng
        self.open: list[Started] = []
        self.answered: list[tuple[Started, Status]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        end = asyncio.Event()

        async def start_all() -> None:
            for number in count():
                await self._start(f"load-{number}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(end.wait(), self._rng.uniform(0, 0.5))
                    return

        starting = asyncio.create_task(start_all())
        yield
        end.set()
        await starting

    async def _start(self, name: str) -> None:
        started = await self._service.start(self._request_for(name))
        self.open.append(started)
        if self._rng.random() < 0.5:
            await self.answer(self._rng.choice(self.open))

    async def answer(self, started: Started) -> None:
        self.open.remove(started)
        if self._rng.random() < 0.5:
            self.answered.append((started, Status.ACTIVE))
            await self._service.requests().accept(started.workflow_id)
        else:
            self.answered.append((started, Status.DECLINED))
            await self._service.requests().decline(started.workflow_id)


@pytest.mark.full  # tests/e2e/test_deploys.py has a short form
@pytest.mark.timeout(600)
async def test_no_task_fails_and_no_request_is_lost(
    service: Service, request_for: RequestFor, rng: Random
) -> None:
    load = Load(service, request_for, rng)
    # A worker can never continue this one. It must delay no deploy.
    await service.temporal.start_workflow("Unknown", id="stuck", task_queue=TASK_QUEUE)
    worker = await service.start_worker()
    async with load.running():
        for build_id in ("v1", "v2", "v1", "v2"):
            await asyncio.sleep(5)
            worker = await deploy(service, build_id, instead_of=worker)
        await asyncio.sleep(5)
    for started in load.open.copy():
        await load.answer(started)
    for started, expected in load.answered:
        assert (await service.handle(started).result())["status"] == expected
        assert await failed_tasks(service, started) == []
    sent = [email["Message-ID"] for email in service.mail.emails]
    assert len(sent) == len(set(sent)), "no email was sent twice"
    async with asyncio.timeout(180):
        while [each.id async for each in service.temporal.list_workflows(STUCK)] != ["stuck"]:
            await asyncio.sleep(1)
    print(f"{len(load.answered)} requests, {len(sent)} emails")  # noqa: T201 - measured


async def deploy(service: Service, build_id: str, *, instead_of: Program) -> Program:
    worker = await service.start_worker(**variables(build_id))
    command = service.launch("-m", "smart_accounts.admin", "deploy", **variables(build_id))
    assert await asyncio.to_thread(command.wait, 120) == 0, service.log
    assert await stop_process(instead_of) == 0
    return worker


async def failed_tasks(service: Service, started: Started) -> list[str]:
    history = await service.handle(started).fetch_history()
    return [
        event.workflow_task_failed_event_attributes.failure.message
        for event in history.events
        if event.HasField("workflow_task_failed_event_attributes")
    ]
