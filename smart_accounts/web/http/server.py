"""The web server and its limits. It shuts down cleanly even while pages listen for events."""

import asyncio
import socket
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 30  # the largest body, 256 KB, then needs 70 kbit/s
MAX_HEADERS = 16 * 1024  # bytes
READ_AT_ONCE = 4 * 1024  # bytes
KEEP_ALIVE_SECONDS = 5
SHUTDOWN_SECONDS = 5


class LimitedProtocol(H11Protocol):
    """Closes a connection if a request has not arrived completely in ``REQUEST_SECONDS``.

    A slow client could otherwise keep the connection open forever. uvicorn's own time-out runs only
    between two requests. It also checks the size of headers only while they are incomplete, so long
    headers must not arrive at once.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), READ_AT_ONCE):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + READ_AT_ONCE])

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def _watch(self) -> None:
        """Start the timer when a request is awaited, and stop it when one is complete."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def server_config(
    app: ASGIApp, protocol: type[LimitedProtocol] = LimitedProtocol, **options: Any
) -> uvicorn.Config:
    """Return uvicorn's settings for the application."""
    return uvicorn.Config(
        app,
        http=protocol,
        h11_max_incomplete_event_size=MAX_HEADERS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        access_log=False,  # paths hold the tokens of activation links
        log_config=None,  # its lines go to our log
        server_header=False,
        ws="none",
        **options,
    )


class Server(uvicorn.Server):
    """Ends the event streams before it waits for open responses."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)
