"""Servers that never respond, or have no address: nobody waits long, and the message is true."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.runtime import Runtime

import worker
from smart_accounts.errors import BadSetting, NoResponse
from smart_accounts.temporal import client, connection
from smart_accounts.temporal.client import RequestClient
from tests.support.web_settings import web_settings


class Silent:
    """A workflow whose queries wait for a worker."""

    async def query(self, *_: Any, **__: Any) -> None:
        await asyncio.Event().wait()


async def test_status_without_a_worker_does_not_blame_temporal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "QUERY_TIMEOUT", timedelta())
    silent = SimpleNamespace(get_workflow_handle=lambda *_, **__: Silent())
    with pytest.raises(NoResponse, match="Temporal is down, or no worker runs"):
        await RequestClient(cast(Client, silent)).status("smart-account-acme.example")


@pytest.fixture
def silent_temporal(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        yield server


@pytest.mark.usefixtures("silent_temporal")
async def test_connecting_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "QUERY_TIMEOUT", timedelta(seconds=0.1))
    async with asyncio.timeout(10):
        with pytest.raises(NoResponse):
            await connection.connect()


@pytest.mark.parametrize("address", ["host:7233x", "host:99999", "[::1", "a b:7233"])
async def test_bad_address_of_temporal_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)
    with pytest.raises(BadSetting, match="bad TEMPORAL_ settings: invalid target URL"):
        await connection.connect()


@pytest.mark.parametrize("hanging", ["database", "Temporal"])
async def test_worker_that_waits_for_a_service_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch, silent_temporal: socket.socket, hanging: str
) -> None:
    waits = asyncio.Event()

    async def migrate(_: str) -> None:
        if hanging == "database":  # another program holds the lock of the migrations
            waits.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(worker, "migrate", migrate)
    monkeypatch.setattr(connection, "QUERY_TIMEOUT", timedelta(minutes=1))
    settings = web_settings("https://accounts.example")
    stop = asyncio.Event()
    waiting = asyncio.create_task(worker.wait_for_services(settings, stop, Runtime.default()))
    with ExitStack() as opened:
        async with asyncio.timeout(10):
            if hanging == "database":
                await waits.wait()
            else:
                accepted, _ = await asyncio.get_running_loop().sock_accept(silent_temporal)
                opened.enter_context(accepted)
            assert not waiting.done()
            stop.set()
            assert await waiting is None
