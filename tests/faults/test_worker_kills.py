"""Two versioned workers with encryption on one task queue. One after the other is killed.

No request is lost. An email is sent twice only if a worker was killed while it sent the email.
"""

import asyncio
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
from temporalio.client import Client

from smart_accounts.contract.messages import EmailState, SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.settings import ClientSettings
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.codec import client_data_converter
from tests.faults.conftest import RequestFor
from tests.faults.test_random_kills import message_id, retry
from tests.support.keys import NEW_KEY
from tests.support.service import Service
from tests.support.store import Query


@dataclass(frozen=True)
class Size:
    seconds: int
    per_second: int
    kill_every: int
    kills: int  # with more in the short form, no worker would live as long as a lease

    @property
    def requests(self) -> int:
        return self.seconds * self.per_second


SHORT = Size(seconds=4, per_second=3, kill_every=2, kills=3)
FULL = Size(seconds=180, per_second=10, kill_every=10, kills=100)


@pytest.fixture
async def encrypted(service: Service) -> Service:
    """The service with one versioned and encrypted worker, whose version is current."""
    service.settings |= {
        "SMART_ACCOUNTS_PAYLOAD_KEYS": NEW_KEY,
        "TEMPORAL_DEPLOYMENT_NAME": "smart-accounts",
        "TEMPORAL_WORKER_BUILD_ID": "one",
    }
    config = service.temporal.config()
    settings = ClientSettings(_env_file=None, payload_keys=NEW_KEY)
    config["data_converter"] = client_data_converter(settings)
    service.temporal = Client(**config)
    await start_worker(service)
    deploy = service.launch("-m", "smart_accounts.admin", "deploy")
    assert await asyncio.to_thread(deploy.wait, 40) == 0, service.log
    return service


@pytest.mark.timeout(1800)
async def test_workers_killed_under_load(
    encrypted: Service, request_for: RequestFor, query_service: Query, full: bool
) -> None:
    size = FULL if full else SHORT
    requests = [request_for(f"load-{number}") for number in range(size.requests)]
    kills: dict[str, float] = {}
    began = time.monotonic()
    killing = asyncio.create_task(kill_workers(encrypted, size, kills))
    async with asyncio.TaskGroup() as playing:
        for number, request in enumerate(requests):
            await asyncio.sleep(began + number / size.per_second - time.monotonic())
            playing.create_task(start_and_accept(encrypted, request))
    started_within = time.monotonic() - began
    for request in requests:
        run = encrypted.temporal.get_workflow_handle(workflow_id(request["account_domain"]))
        assert (await run.result())["status"] == Status.ACTIVE
    killing.cancel()
    await asyncio.wait([killing])

    rows = await query_service(
        "SELECT status, state FROM requests r JOIN accounts a ON a.id = r.id"
    )
    assert [tuple(row.values()) for row in rows] == [("active", "active")] * size.requests
    query = f"SELECT message_id, kind FROM emails WHERE state = '{EmailState.SENT}'"
    recorded = {row["message_id"]: row["kind"] for row in await query_service(query)}
    for kind in ("activated", "welcome", "access-granted"):
        assert [*recorded.values()].count(kind) == size.requests
    copies = defaultdict(list)
    for email, arrived in zip(encrypted.mail.emails, encrypted.mail.arrivals, strict=True):
        copies[message_id(email)].append(arrived)
    assert recorded.keys() <= copies.keys()
    unexplained = [
        (name, sent)
        for name, sent in copies.items()
        if not are_explained(sent, kills, is_recorded=name in recorded)
    ]
    assert unexplained == []
    assert kills
    print(  # noqa: T201 - the figures of the run
        f"{size.requests} requests in {started_within:.0f} s, all ended after"
        f" {time.monotonic() - began:.0f} s, {len(kills)} kills, {len(copies)} emails,"
        f" {len(encrypted.mail.emails) - len(copies)} duplicates, all in flight at a kill"
    )


def are_explained(
    copies: list[tuple[str, float]], kills: dict[str, float], *, is_recorded: bool
) -> bool:
    """Return True if each worker that sent a copy was killed before the next copy was sent.

    Then it was killed before it had recorded the outcome, because a recorded email is never sent
    again. The last copy of a recorded email needs no explanation. If no worker recorded the email,
    a decision stopped it, and the worker that sent the last copy was killed too.
    """
    until = [arrived for _, arrived in copies[1:]]
    until += [] if is_recorded else [math.inf]
    return all(
        arrived <= kills.get(worker, math.inf) < next_arrived
        for (worker, arrived), next_arrived in zip(copies, until, strict=False)
    )


async def start_and_accept(service: Service, request: dict[str, Any]) -> None:
    requests = RequestClient(service.temporal)
    start_input = SmartAccountRequest.model_validate(request)
    await retry(lambda: requests.start(start_input))
    await asyncio.sleep(1)
    await retry(lambda: requests.accept(workflow_id(request["account_domain"])))


async def kill_workers(service: Service, size: Size, kills: dict[str, float]) -> None:
    """Replace the older of two workers again and again. Note when each was killed."""
    await start_worker(service)
    for number in range(size.kills):
        await asyncio.sleep(size.kill_every)
        older = next(each for each in service.processes if each.poll() is None)
        await service.kill(older)
        kills[host_name(number)] = time.monotonic()
        await start_worker(service)


async def start_worker(service: Service) -> None:
    workers = [each for each in service.processes if "worker.py" in each.arguments]
    name = host_name(len(workers))
    await service.start_worker(SMART_ACCOUNTS_SMTP_LOCAL_HOSTNAME=name)


def host_name(number: int) -> str:
    """Return the name of a worker, by which the mail server knows it."""
    return f"worker-{number}.example"
