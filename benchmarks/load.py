"""The load of a benchmark: requests that are made and accepted, a fixed number at a time."""

import asyncio
import math
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, Protocol, TypeVar

from temporalio.client import Client, WorkflowHandle

from benchmarks.servers import MailSink
from smart_accounts.contract.messages import Requester, SmartAccountRequest, Status
from smart_accounts.contract.names import TASK_QUEUE
from smart_accounts.temporal.closing import first_task
from tests.support.patient_client import PatientClient

IN_FLIGHT = 16
OPENING_EMAILS = 2  # activation and request-received
EMAILS = 4  # also activated and welcome
REQUESTERS = 100

Asked = TypeVar("Asked")
Handle = WorkflowHandle[Any, Any]


class Service(Protocol[Asked]):
    """What a variant does with a request."""

    async def ask(self, request: SmartAccountRequest) -> Asked:
        """Make a request. Return once it waits for the customer, and its emails have arrived.

        A customer who has no email cannot accept. A request that is accepted before its first
        emails could be sent no longer sends them.
        """

    async def accept(self, asked: Asked) -> None:
        """Accept a request. Return once it is active and the last email is sent."""


class TemporalService:
    """The product, or the floor that has its workflow but sends no emails."""

    def __init__(self, client: Client, sink: MailSink | None) -> None:
        self.client = client
        self._sink = sink
        self._requests = PatientClient(client)

    async def ask(self, request: SmartAccountRequest) -> Handle:
        started = await self._requests.start(request)
        handle: Handle = self.client.get_workflow_handle(
            started.workflow_id, run_id=started.request_id
        )
        await first_task(handle)
        if self._sink:
            await self._sink.until_arrived(started.request_id, OPENING_EMAILS)
        return handle

    async def accept(self, asked: Handle) -> None:
        await self._requests.accept(asked.id, run_id=asked.run_id)
        assert (await asked.result())["status"] == Status.ACTIVE


class BareService:
    """The floor that only waits."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, request: SmartAccountRequest) -> Handle:
        handle: Handle = await self._client.start_workflow(
            "BareWait",
            request.acceptance_window.total_seconds(),
            id=request.account_domain,
            task_queue=TASK_QUEUE,
        )
        await first_task(handle)
        return handle

    async def accept(self, asked: Handle) -> None:
        await asked.signal("accepted")
        assert await asked.result() == Status.ACTIVE


class PeerService:
    """The same service with DBOS."""

    def __init__(self, socket: Path, sink: MailSink) -> None:
        self._socket = socket
        self._sink = sink

    async def ask(self, request: SmartAccountRequest) -> tuple[StreamReader, StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        writer.write(request.model_dump_json().encode() + b"\n")
        status, _, request_id = (await reader.readline()).decode().strip().partition(" ")
        assert status == Status.PENDING
        await self._sink.until_arrived(request_id, OPENING_EMAILS)
        return reader, writer

    async def accept(self, asked: tuple[StreamReader, StreamWriter]) -> None:
        reader, writer = asked
        writer.write(b"customer\n")
        assert await reader.readline() == b"active\n"
        writer.close()


def new_requests(
    prefix: str = "customer", requesters: int = REQUESTERS
) -> Iterator[SmartAccountRequest]:
    """Yield requests for different domains and customers, from many requesters."""
    for number in count():
        domain, requester = f"{prefix}-{number}.example", number % requesters
        yield SmartAccountRequest(
            account_name=f"Customer {number}",
            account_domain=domain,
            customer_email=f"ada@{domain}",
            requester=Requester(
                email=f"pat@partner-{requester}.example", name="Pat Lee", company="Partner Ltd"
            ),
        )


async def run_jobs(
    service: Service[Asked], requests: Iterable[SmartAccountRequest]
) -> tuple[list[Asked], list[float]]:
    """Make and accept the requests.

    Returns them, and for each the seconds from the acceptance to the end.
    """
    done: list[Asked] = []
    latencies: list[float] = []

    async def run_job(request: SmartAccountRequest) -> None:
        asked = await service.ask(request)
        began = time.perf_counter()
        await service.accept(asked)
        latencies.append(time.perf_counter() - began)
        done.append(asked)

    await for_each(requests, run_job)
    return done, latencies


async def for_each(
    requests: Iterable[SmartAccountRequest], act: Callable[[SmartAccountRequest], Awaitable[object]]
) -> None:
    """Act on the requests, ``IN_FLIGHT`` at a time."""
    remaining = iter(requests)

    async def work() -> None:
        for request in remaining:
            await act(request)

    async with asyncio.TaskGroup() as workers:
        for _ in range(IN_FLIGHT):
            workers.create_task(work())


def percentile(values: Iterable[float], part: float) -> float:
    """Return the smallest value that is not exceeded by this part of the values."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * part) - 1, 0)]
