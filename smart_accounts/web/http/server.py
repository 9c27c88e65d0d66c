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
# Parts of one body: its chunks, or what arrived at once. h11 needs 9 microseconds for each part.
# The largest body, 512 KB, has 400 parts if it arrives in single packets.
MAX_BODY_PARTS = 2000
KEEP_ALIVE_SECONDS = 5
SHUTDOWN_SECONDS = 5


class _Connection(h11.Connection):
    """Counts the parts of a request's body."""

    body_parts = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.body_parts = 0
        elif isinstance(event, h11.Data):
            self.body_parts += 1
        return event


class LimitedProtocol(H11Protocol):
    """Closes a connection if a request takes too much time or consists of too many parts.

    A request must arrive completely in ``REQUEST_SECONDS``, because a slow client could otherwise
    keep the connection open forever. uvicorn's own time-out runs only between two requests. uvicorn
    also checks the size of headers only while they are incomplete, so long headers must not arrive
    at once. This includes the headers of a second request that arrives before the first response.
    """

    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn: _Connection = _Connection(h11.SERVER, MAX_HEADERS)
        self._waiting = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        self._continue()

    def handle_events(self) -> None:
        super().handle_events()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request. The error may be in a body whose response has begun."""
        if self.cycle:
            self.cycle.disconnected = True  # its response would be a second one
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._continue()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def _continue(self) -> None:
        """Hand over what arrived, up to the end of a request whose response is not complete."""
        while self._waiting and not self.transport.is_closing():
            if not self._awaits_request():
                self.flow.pause_reading()
                return
            piece = bytes(self._waiting[:READ_AT_ONCE])
            del self._waiting[:READ_AT_ONCE]
            super().data_received(piece)
            if self.conn.body_parts > MAX_BODY_PARTS:
                self.transport.close()

    def _awaits_request(self) -> bool:
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _watch(self) -> None:
        """Start the timer when a request is awaited, and stop it when one is complete."""
        if not self._awaits_request():
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
