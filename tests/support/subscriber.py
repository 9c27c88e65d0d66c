"""A system that gets webhooks, keeps them, and can be told to misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from smart_accounts.contract.webhooks import SUBSCRIBABLE
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Endpoint, NewEndpoint
from smart_accounts.webhooks.signing import new_secret, seal
from tests.support.keys import KEY
from tests.support.partners import OPERATOR
from tests.support.ports import find_free_port

TAKE, FAIL, MOVE = "204 No Content", "500 Internal Server Error", "301 Moved Permanently"
HANG, CLOSE = "no reply", "disconnect"


@dataclass(frozen=True)
class ReceivedEvent:
    """One HTTP request. ``reply`` is the response."""

    path: str
    headers: dict[str, str]
    body: str
    reply: str

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> Any:
        return json.loads(self.body)

    @property
    def sequence(self) -> int:
        found = self.event["data"]["sequence"]
        assert isinstance(found, int)
        return found


class Subscriber:
    """Each path is an endpoint of its own. ``replies`` has those that do not respond ``reply``."""

    def __init__(self) -> None:
        self.port = find_free_port()
        self.received: list[ReceivedEvent] = []
        self.reply = TAKE
        self.replies: dict[str, str] = {}
        self.secrets: dict[str, str] = {}
        """The secret of each path, with which every request is verified."""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            self._server = None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def taken(self, path: str = "/hooks") -> list[ReceivedEvent]:
        """Return what the subscriber confirmed, in order."""
        return [each for each in self.received if (each.path, each.reply) == (path, TAKE)]

    async def wait_for(self, number: int, path: str = "/hooks", reply: str = TAKE) -> None:
        """Wait until the path has responded in this way to so many requests."""
        async with asyncio.timeout(60):
            while [(each.path, each.reply) for each in self.received].count((path, reply)) < number:
                await asyncio.sleep(0.02)

    async def register(
        self,
        store: AccountStore,
        path: str = "/hooks",
        owner: Partner = OPERATOR,
        now: datetime | None = None,
    ) -> Endpoint:
        """Register an endpoint for all events, of all requests if the owner is an operator."""
        secret = self.secrets[path] = new_secret()
        new = NewEndpoint(
            url=self.url(path),
            description="",
            event_types=SUBSCRIBABLE,
            for_all_requests=owner.is_operator,
        )
        return await store.webhooks.register(
            new, owner, seal(secret, [KEY]), now or datetime.now(UTC)
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = head[0].split()[1]
            fields = (line.partition(": ") for line in head[1:] if line)
            headers = {name.lower(): value for name, _, value in fields}
            body = (await reader.readexactly(int(headers["content-length"]))).decode()
            Webhook(self.secrets[path]).verify(body, headers)
            reply = self.replies.get(path, self.reply)
            self.received.append(ReceivedEvent(path, headers, body, reply))
            if reply == HANG:
                await reader.read()  # until the client disconnects
            elif reply != CLOSE:
                moved = f"Location: {self.url('/moved')}\r\n" if reply == MOVE else ""
                writer.write(f"HTTP/1.1 {reply}\r\n{moved}Content-Length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()


@pytest.fixture
async def subscriber() -> AsyncIterator[Subscriber]:
    running = Subscriber()
    await running.start()
    yield running
    await running.stop()
