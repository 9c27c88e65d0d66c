"""A PostgreSQL primary and its standby change places while the service writes."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from smart_accounts.contract.messages import Status
from tests.faults.conftest import RequestFor
from tests.support.mail_server import LinkIn
from tests.support.ports import FreePort
from tests.support.postgres import Postgres
from tests.support.service import Service

PROMISED_SECONDS = 30


@pytest.fixture
async def servers(free_port: FreePort) -> AsyncIterator[list[Postgres]]:
    """A primary and its standby."""
    with tempfile.TemporaryDirectory() as folder:
        primary = Postgres(Path(folder), free_port())
        await primary.start()
        standby = primary.new_standby(free_port())
        await standby.start()
        yield [primary, standby]
        for each in (standby, primary):
            await each.stop()


@pytest.fixture
def any_database_url(servers: list[Postgres]) -> str:
    """A URL that names both servers."""
    hosts = "&".join(f"host=127.0.0.1:{each.port}" for each in servers)
    name = servers[0].new_database().rpartition("/")[2]
    return f"postgresql+asyncpg://postgres@/{name}?{hosts}"


@pytest.mark.timeout(300)
async def test_switchover(
    service_on_any_database: Service,
    servers: list[Postgres],
    request_for: RequestFor,
    link_in: LinkIn,
    full: bool,
) -> None:
    service = service_on_any_database
    await service.start_worker()
    address = await service.start_web()
    primary, standby = servers
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:

        async def code(method: str, path: str) -> int:
            response = await http.request(method, path, data={"agree": "yes"})
            return response.status_code

        async def wait_for(expected: int, method: str, path: str) -> None:
            while await code(method, path) != expected:
                await asyncio.sleep(0.2)

        for number in range(4 if full else 1):
            accepted = await service.start(request_for(f"accepted-{number}"))
            await service.wait_for(accepted, Status.PENDING, sent=2)
            email = await service.mail.wait_for("activation", f"ada@accepted-{number}.example")

            starting = [
                asyncio.create_task(service.start(request_for(f"writing-{number}-{n}")))
                for n in range(5)
            ]
            await primary.stop()
            primary.follow(standby)
            await primary.start()
            # Both servers accept connections and reads, but no writes.
            await wait_for(503, "GET", "/readyz")  # its last check may be a second old
            assert await code("POST", link_in(email)) == 503
            assert await code("GET", "/healthz") == 200

            await standby.promote()
            began = time.monotonic()
            async with asyncio.timeout(PROMISED_SECONDS):
                await wait_for(200, "GET", "/readyz")
                await wait_for(303, "POST", link_in(email))
                later = await service.start(request_for(f"later-{number}"))
                await service.wait_for(later, Status.PENDING, sent=2)
            print(f"written again after {time.monotonic() - began:.1f} s")  # noqa: T201 - a figure of the run

            assert (await service.handle(accepted).result())["status"] == Status.ACTIVE
            for each in await asyncio.gather(*starting):
                await service.wait_for(each, Status.PENDING, sent=2)
            primary, standby = standby, primary
