"""A receiver of webhooks that sends whatever bytes a test wants, and keeps what it received."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from smart_accounts.store.webhook_records import Attempt
from smart_accounts.webhooks.addresses import AddressRules
from smart_accounts.webhooks.sender import WebhookSender

LOCAL = AddressRules(allow_loopback=True)
HEADERS = {"webhook-id": "e1", "webhook-timestamp": "1764150000", "webhook-signature": "v1,abc="}
BODY = '{"id": "e1", "name": "Zoë"}'

Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Received:
    """What came to one receiver."""

    port: int = 0
    connections: int = 0
    requests: list[tuple[dict[str, str], str]] = field(default_factory=list)
    """The headers, with names in lower case and the request line as ``""``, and the body."""


def raw(response: bytes) -> Respond:
    """Return a receiver's behaviour: it sends these bytes and closes the connection."""

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await writer.drain()

    return respond


def plain(status: str = "204 No Content", body: str = "", headers: str = "") -> Respond:
    """Return an ordinary receiver's behaviour."""
    content = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{headers}\r\n"
    return raw(head.encode() + content)


@asynccontextmanager
async def open_receiver(
    respond: Respond, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Received]:
    received, tasks = Received(), set[asyncio.Task[None]]()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        received.connections += 1
        try:
            received.requests.append(await _read(reader))
            await respond(writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the sender closed the connection
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)
    received.port = server.sockets[0].getsockname()[1]
    try:
        yield received
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> tuple[dict[str, str], str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    headers = {"": first} | {name.lower(): value for name, _, value in pairs}
    body = await reader.readexactly(int(headers["content-length"]))
    return headers, body.decode()


async def send(url: str, rules: AddressRules = LOCAL) -> Attempt:
    """Send a webhook that has `HEADERS` and `BODY`."""
    return await WebhookSender().send(url, HEADERS, BODY, rules)


async def send_to(respond: Respond) -> tuple[Attempt, Received]:
    """Send a webhook to a receiver with this behaviour."""
    async with open_receiver(respond) as received:
        return await send(f"http://127.0.0.1:{received.port}/hook?key=1"), received
