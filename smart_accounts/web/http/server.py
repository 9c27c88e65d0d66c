"""The web server, which ends in order also while pages listen for news."""

import asyncio
import socket

import uvicorn


class Server(uvicorn.Server):
    """Ends the streams of events before it waits for what is still being answered."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)
