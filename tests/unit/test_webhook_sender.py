"""No receiver can keep the sender busy, make it reach something else, or stop it with an error."""

import asyncio
import gzip
import socket
import time

import pytest

from smart_accounts.version import VERSION
from smart_accounts.webhooks import sender
from smart_accounts.webhooks.sender import WebhookSender
from tests.support.ports import find_free_port
from tests.support.webhook_receiver import (
    BODY,
    HEADERS,
    LOCAL,
    Respond,
    open_receiver,
    plain,
    raw,
    send,
    send_to,
)

pytestmark = pytest.mark.server

NOT_HTTP = "The response is not valid HTTP."
NO_RESPONSE = "The receiver closed the connection without a response."
TIMED_OUT = "No response within {} seconds. Respond first, then process the event."
NOT_TAKEN = "The receiver did not take the event. It must respond with a status from 200 to 299."


async def test_webhook_arrives() -> None:
    attempt, received = await send_to(plain("202 Accepted", "thank you"))
    assert (attempt.status_code, attempt.error, attempt.response) == (202, None, "thank you")
    assert attempt.is_delivered
    assert attempt.took_ms is not None
    [(headers, body)] = received.requests
    assert body == BODY
    assert headers == HEADERS | {
        "": "POST /hook?key=1 HTTP/1.1",
        "host": f"127.0.0.1:{received.port}",
        "content-type": "application/cloudevents+json; charset=utf-8",
        "content-length": str(len(BODY.encode())),
        "user-agent": f"Smart-Account-Requests/{VERSION}",
        "accept-encoding": "identity",
        "connection": "close",
    }


@pytest.mark.parametrize(
    ("response", "status", "error", "shown"),
    [
        (b"", None, NO_RESPONSE, None),
        (b"\x00" * 1000, None, NOT_HTTP, None),
        (b"220 mail.internal ESMTP Postfix\r\n", None, NOT_HTTP, None),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", None, NOT_HTTP, None),
        (b"HTTP/1.1 abc\r\n\r\n", None, NOT_HTTP, None),
        (b"HTTP/1.1 99999 x\r\n\r\n", None, NOT_HTTP, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", None, NOT_HTTP, None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            None,
            NOT_HTTP,
            None,
        ),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", None, NOT_HTTP, None),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", None, NOT_HTTP, None),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, None, "until the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nbroken off", 200, None, "broken off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 200, None, None),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"\xff\xfe\x00A\x1b[31m\r\n\t B", 200, None, "�� A [31m B"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + "\u202eüß😀<b>".encode(), 200, None, "üß😀<b>"),
        (b"HTTP/1.1 500 x\r\nContent-Length: 4\r\n\r\noops", 500, NOT_TAKEN, "oops"),
        (b"HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", 404, NOT_TAKEN, None),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_any_response(
    response: bytes, status: int | None, error: str | None, shown: str | None
) -> None:
    attempt, _ = await send_to(raw(response))
    found = (attempt.status_code, attempt.error, attempt.response)
    if error == NO_RESPONSE:  # whether it was closed or cut off
        assert found[1] in (NO_RESPONSE, NOT_HTTP)
        found = (found[0], error, found[2])
    assert found == (status, error, shown)


async def test_redirects_are_not_followed() -> None:
    async with open_receiver(plain()) as other:
        for status in ("301 Moved", "302 Found", "307 Temporary", "308 Permanent"):
            place = f"Location: http://127.0.0.1:{other.port}/inside\r\n"
            attempt, _ = await send_to(plain(status, headers=place))
            assert attempt.status_code == int(status[:3])
            assert attempt.error == "Redirects are not followed. Enter the URL that they lead to."
    assert other.connections == 0


def endless(first: bytes, part: bytes) -> tuple[Respond, list[int]]:
    """Return the behaviour of a receiver that never stops, and how many bytes it has sent."""
    written: list[int] = []

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while sum(written) < 1_000_000_000:
            writer.write(part)
            await writer.drain()
            written.append(len(part))

    return respond, written


@pytest.mark.parametrize(
    ("first", "part"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 10_000),
        (b"HTTP/1.1 200 OK\r\na: ", b"b" * 65536),
        (b"", b"a" * 65536),
    ],
    ids=["informational responses", "headers", "one header", "anything"],
)
async def test_endless_head(first: bytes, part: bytes) -> None:
    respond, written = endless(first, part)
    attempt, _ = await send_to(respond)
    assert (attempt.status_code, attempt.error) == (None, NOT_HTTP)
    assert sum(written) < 20_000_000  # what the buffers of the two sides take


async def test_only_the_first_characters_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    gigabyte = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    respond, written = endless(gigabyte, "é".encode() * 32768)
    attempt, _ = await send_to(respond)
    assert attempt.is_delivered
    assert attempt.response == "é" * 300
    assert sum(written) < 20_000_000

    async def enough(writer: asyncio.StreamWriter) -> None:
        writer.write(gigabyte + b"a" * 2000)
        await hang(writer)

    monkeypatch.setattr(sender, "TIME_LIMIT", 3600)  # the rest is not waited for
    attempt, _ = await send_to(enough)
    assert attempt.response == "a" * 300


async def test_nothing_is_decompressed() -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    attempt, _ = await send_to(raw(head.encode() + bomb))
    assert attempt.is_delivered
    assert attempt.response
    assert "000" not in attempt.response
    assert len(attempt.response) <= 300


def drip(first: bytes) -> Respond:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.01)

    return respond


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_slow_receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sender.TIME_LIMIT == 10
    monkeypatch.setattr(sender, "TIME_LIMIT", 2)
    began = time.monotonic()
    hanging, header, body = await asyncio.gather(
        send_to(hang),
        send_to(drip(b"HTTP/1.1 200 OK\r\na: ")),
        send_to(drip(b"HTTP/1.1 200 OK\r\n\r\n")),
    )
    for attempt, _ in (hanging, header):
        assert (attempt.status_code, attempt.error) == (None, TIMED_OUT.format(2))
        assert (attempt.took_ms or 0) >= 1900
    assert body[0].is_delivered  # it said so, and its body is of no interest
    assert set(body[0].response or "") == {"a"}
    assert time.monotonic() - began < 60


async def test_receiver_that_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "TIME_LIMIT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes connections, reads nothing
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        attempt = await WebhookSender().send(url, HEADERS, "x" * 20_000_000, LOCAL)
    assert attempt.error == TIMED_OUT.format(0.5)


async def test_no_connection() -> None:
    attempt = await send(f"http://127.0.0.1:{find_free_port()}/")
    assert attempt.error == "No connection. Check that the receiver is running."
    assert (attempt.status_code, attempt.response) == (None, None)
