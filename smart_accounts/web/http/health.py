"""Health checks: the responses of worker and web, and the worker's small server for them."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from smart_accounts.errors import BadSetting
from smart_accounts.networks import is_host
from smart_accounts.temporal.readiness import OK
from smart_accounts.version import VERSION, build_id
from smart_accounts.web.http.server import LimitedProtocol, server_config

SETTING = "SMART_ACCOUNTS_HEALTH_ADDRESS"
MAX_CONNECTIONS = 50


def alive_response() -> Response:
    return JSONResponse({"status": OK, "version": VERSION, "build": build_id()})


def ready_response(states: Mapping[str, str]) -> Response:
    """Return 200 if everything is ``ok``, otherwise 503."""
    is_ready = set(states.values()) == {OK}
    return JSONResponse(
        {"status": OK if is_ready else "unavailable", **states}, 200 if is_ready else 503
    )


class _Protocol(LimitedProtocol):
    """Closes the oldest connection if there are too many.

    Otherwise a client could take all file descriptors of the worker. A health check needs its
    connection for a moment only, so it does not become the oldest one.
    """

    since: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.since = self.loop.time()
        waiting = [
            each
            for each in self.connections
            if isinstance(each, _Protocol) and not each.transport.is_closing()
        ]
        if len(waiting) > MAX_CONNECTIONS:
            min(waiting, key=lambda each: each.since).transport.abort()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the worker."""
        yield


@asynccontextmanager
async def serve_health(
    address: str | None, check: Callable[[], Awaitable[Mapping[str, str]]]
) -> AsyncIterator[None]:
    """Serve ``/healthz`` and ``/readyz`` at ``host:port``, or nothing without an address.

    Raises:
        BadSetting: The address is malformed or in use.
    """
    if address is None:
        yield
        return

    async def alive(_: Request) -> Response:
        return alive_response()

    async def ready(_: Request) -> Response:
        return ready_response(await check())

    listener = _listen(address)
    app = Starlette(routes=[Route("/healthz", alive), Route("/readyz", ready)])
    server = _Server(server_config(app, _Protocol, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not is_host(host) or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise BadSetting(f"bad settings: {SETTING}: must be HOST:PORT")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise BadSetting(f"bad settings: {SETTING}: {error}") from None
