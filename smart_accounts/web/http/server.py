"""The web server. It shuts down cleanly even while pages listen for events."""

import asyncio
import socket

import uvicorn


class Server(uvicorn.Server):
    """Ends the event streams before it waits for open responses."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)
