"""The worker's health check: what it says, and what strange clients can do to it."""

import asyncio
import os
import signal
from contextlib import suppress
from types import SimpleNamespace

import httpx
import pytest

from smart_accounts.errors import BadSetting, Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.readiness import WorkerReadiness
from smart_accounts.version import VERSION
from smart_accounts.web.http import server
from smart_accounts.web.http.health import MAX_CONNECTIONS, serve_health
from tests.support.fake_temporal import FakeTemporal
from tests.support.ports import FreePort

pytestmark = pytest.mark.server

HEALTHY = {"status": "ok", "temporal": "ok", "database": "ok", "worker": "ok"}


async def test_worker_is_ready_while_it_runs_and_can_work(
    store: AccountStore, free_port: FreePort
) -> None:
    stop, temporal, worker = asyncio.Event(), FakeTemporal(), SimpleNamespace(is_running=True)
    readiness, address = WorkerReadiness(stop), f"127.0.0.1:{free_port()}"
    async with serve_health(address, readiness.check), httpx.AsyncClient() as http:

        async def get(path: str) -> tuple[int, dict[str, str | None]]:
            response = await http.get(f"http://{address}{path}")
            return response.status_code, response.json()

        assert await get("/readyz") == (503, {"status": "unavailable", "worker": "down"})
        readiness.set_running(lambda: worker.is_running, temporal, store)
        assert await get("/readyz") == (200, HEALTHY)
        temporal.error = Unavailable("no")
        down = HEALTHY | {"status": "unavailable", "temporal": "down"}
        assert await get("/readyz") == (503, down)
        temporal.error, worker.is_running = None, False
        assert (await get("/readyz"))[0] == 503
        worker.is_running = True
        stop.set()
        assert (await get("/readyz"))[0] == 503
        alive = {"status": "ok", "version": VERSION, "build": None}
        assert await get("/healthz") == (200, alive)
        assert (await http.post(f"http://{address}/healthz")).status_code == 405
        assert (await http.get(f"http://{address}/metrics")).status_code == 404


async def test_health_is_served_until_the_worker_has_ended(free_port: FreePort) -> None:
    stop, loop, address = asyncio.Event(), asyncio.get_running_loop(), f"127.0.0.1:{free_port()}"
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    try:
        async with (
            serve_health(address, WorkerReadiness(stop).check),
            httpx.AsyncClient(base_url=f"http://{address}") as http,
        ):
            assert (await http.get("/healthz")).status_code == 200
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
            for _ in range(8):  # longer than the server would need to close
                assert (await http.get("/readyz")).status_code == 503
                await asyncio.sleep(0.05)
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff" * 1000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of TLS
        b"GET /healthz HTTP/1.1\r\n" + b"X: " + b"x" * 100_000,
        b"GET /" + b"%ff" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /healthz",
    ],
    ids=["binary", "tls", "long-header", "long-path", "body", "incomplete"],
)
async def test_strange_bytes_do_no_harm(
    free_port: FreePort, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    port = free_port()
    async with serve_health(f"127.0.0.1:{port}", WorkerReadiness(asyncio.Event()).check):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            with suppress(ConnectionError):
                writer.write(sent)
                await writer.drain()
                await reader.read()  # the server closes the connection
        writer.transport.abort()
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200


async def test_idle_connections_do_not_keep_the_health_check_out(free_port: FreePort) -> None:
    """A client that only opens connections would otherwise take all file descriptors."""
    port = free_port()
    async with serve_health(f"127.0.0.1:{port}", WorkerReadiness(asyncio.Event()).check):
        idle = [
            await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS + 5)
        ]
        async with httpx.AsyncClient() as http, asyncio.timeout(20):
            assert (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200
            for reader, _ in idle[:5]:
                with suppress(ConnectionError):
                    assert await reader.read() == b""  # closed before its time
        assert not any(reader.at_eof() for reader, _ in idle[10:])
        for _, writer in idle:
            writer.transport.abort()


@pytest.mark.parametrize(
    "address",
    [
        *("", ":9465", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999"),
        *("192.0.2.1:9465", "ü" * 80 + ":9465", "x" * 300 + ":9465", "127.0.0.1\0:9465"),
    ],
    ids=ascii,
)
async def test_bad_address_is_named(address: str) -> None:
    with pytest.raises(BadSetting, match=r"^bad settings: SMART_ACCOUNTS_HEALTH_ADDRESS: .+$"):
        async with serve_health(address, WorkerReadiness(asyncio.Event()).check):
            pass
