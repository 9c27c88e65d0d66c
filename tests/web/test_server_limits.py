"""Limits of the web server: slow requests, long headers, and clients that go away."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import h11
import pytest
from fastapi import Request

from smart_accounts.web.codec_server import MAX_BODY
from smart_accounts.web.http import server
from smart_accounts.web.http.forms import read_body, read_form
from tests.support.site import OpenSite, Site

HEADERS = b"Host: 127.0.0.1\r\n"
FORM = b"POST /activate/x HTTP/1.1\r\n" + HEADERS + b"Content-Length: 1000\r\n\r\n"
PAGE = b"GET /healthz HTTP/1.1\r\n" + HEADERS + b"\r\n"


class Connection:
    """One connection to the site, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read_to_the_end(self) -> bytes:
        """Return everything until the server closes the connection."""
        async with asyncio.timeout(20):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    async def read_until(self, end: bytes) -> bytes:
        async with asyncio.timeout(20):
            return await self._reader.readuntil(end)

    async def close(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def connection(served_site: Site) -> AsyncIterator[Connection]:
    host, port = served_site.listener.getsockname()
    opened = Connection(*await asyncio.open_connection(host, port))
    yield opened
    await opened.close()


@pytest.fixture
def short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET", b"GET /healthz HTTP/1.1\r\nHost: 1", FORM, FORM + b"reason=", PAGE + FORM],
    ids=["nothing", "method", "headers", "no-body", "body", "pipelined-body"],
)
async def test_incomplete_request_times_out(
    short_time: None, connection: Connection, sent: bytes
) -> None:
    await connection.send(sent)
    received = await connection.read_to_the_end()
    assert received.count(b"HTTP/1.1 ") == (1 if PAGE in sent else 0)


@pytest.mark.parametrize("begun", [b"GET /healthz HTTP/1.1\r\nX: ", FORM], ids=["headers", "body"])
async def test_slow_request_times_out(
    short_time: None, connection: Connection, begun: bytes
) -> None:
    ended = asyncio.create_task(connection.read_to_the_end())
    await connection.send(begun)
    while not ended.done():
        await asyncio.sleep(0.05)
        if not ended.done():
            try:
                await connection.send(b"x")
            except ConnectionError:
                break
    assert await ended == b""


async def test_slow_response_does_not_time_out(
    short_time: None, served_site: Site, connection: Connection
) -> None:
    async def slow() -> str:
        await asyncio.sleep(3 * server.REQUEST_SECONDS)
        return "done"

    served_site.app.add_api_route("/slow", slow)
    await connection.send(b"GET /slow HTTP/1.1\r\nConnection: close\r\n" + HEADERS + b"\r\n")
    assert b"done" in await connection.read_to_the_end()


@pytest.mark.parametrize(
    ("headers", "is_accepted"),
    [
        (b"X: " + b"x" * 15_000 + b"\r\n", True),
        (b"X: " + b"x" * 21_000 + b"\r\n", False),
        (b"X: " + b"x" * 200_000 + b"\r\n", False),
        (b"X:\r\n" * 50_000, False),
    ],
    ids=["15-KB", "21-KB", "200-KB", "many"],
)
async def test_long_headers(connection: Connection, headers: bytes, is_accepted: bool) -> None:
    began = time.process_time()
    await connection.send(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n" + HEADERS + headers)
    await connection.send(b"\r\n")
    received = await connection.read_to_the_end()
    assert (b" 200 " in received) is is_accepted
    assert time.process_time() - began < 0.1


@pytest.fixture
def read_events(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the type of each event that h11 has read."""
    types: list[object] = []
    next_event = h11.Connection.next_event

    def noted(connection: h11.Connection) -> object:
        event = next_event(connection)
        types.append(type(event))
        return event

    monkeypatch.setattr(h11.Connection, "next_event", noted)
    return types


async def test_long_headers_of_a_second_request(
    connection: Connection, read_events: list[object]
) -> None:
    headers = HEADERS + b"X:\r\n" * 10_000  # few enough for one read of the socket
    with suppress(ConnectionError):  # the server closes the connection
        await connection.send(PAGE + b"GET /healthz HTTP/1.1\r\n" + headers + b"\r\n")
    await connection.read_to_the_end()
    assert read_events.count(h11.Request) == 1


async def test_requests_that_arrive_at_once(served_site: Site, connection: Connection) -> None:
    async def act(request: Request) -> str:
        return f"{len(await read_body(request, 9000))} bytes"

    served_site.app.add_api_route("/act", act, methods=["POST"])
    form = b"POST /act HTTP/1.1\r\n" + HEADERS + b"Content-Length: 9000\r\n\r\n" + b"x" * 9000
    last = PAGE.replace(HEADERS, HEADERS + b"Connection: close\r\n")
    await connection.send((PAGE + form) * 50 + last)
    received = await connection.read_to_the_end()
    assert (received.count(b" 200 "), received.count(b"9000 bytes")) == (101, 50)


@pytest.mark.parametrize("head", ["POST /activate/x", "POST /hooks/bounces", "GET /healthz"])
async def test_tiny_chunks(connection: Connection, read_events: list[object], head: str) -> None:
    """h11 needs as much CPU time for each chunk as for the whole body in one piece."""
    headers = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"
    with suppress(ConnectionError):  # the server closes the connection
        await connection.send(head.encode() + b" HTTP/1.1\r\n" + headers + b"1\r\na\r\n" * 40_000)
    await connection.read_to_the_end()
    parts_of_one_piece = server.READ_AT_ONCE // len(b"1\r\na\r\n") + 1
    assert 0 < read_events.count(h11.Data) <= server.MAX_BODY_PARTS + parts_of_one_piece


async def test_largest_body_in_small_chunks(served_site: Site, connection: Connection) -> None:
    async def act(request: Request) -> str:
        return f"{len(await read_body(request, MAX_BODY))} bytes"

    served_site.app.add_api_route("/act", act, methods=["POST"])
    headers = HEADERS + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = (b"200\r\n" + b"x" * 512 + b"\r\n") * (MAX_BODY // 512)
    await connection.send(b"POST /act HTTP/1.1\r\n" + headers + chunks + b"0\r\n\r\n")
    assert f"{MAX_BODY} bytes".encode() in await connection.read_to_the_end()


async def test_malformed_chunk_logs_no_error(
    served_site: Site, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    chunked = HEADERS + b"Transfer-Encoding: chunked\r\n\r\n"
    await connection.send(b"GET /healthz HTTP/1.1\r\n" + chunked)
    await connection.read_until(b'"status":')  # the response has begun before the body is read
    await connection.send(b"zzz\r\n")
    assert b" 400 " not in await connection.read_to_the_end()
    other = Connection(*await asyncio.open_connection(*served_site.listener.getsockname()))
    await other.send(b"GET /healthz HTTP/1.1\r\n" + chunked + b"zzz\r\n")
    assert b" 400 " in await other.read_to_the_end()
    await other.close()
    await wait_for_requests(0)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def wait_for_requests(number: int) -> None:
    """Wait until the server handles exactly so many requests."""
    async with asyncio.timeout(20):
        while sum("run_asgi" in repr(task) for task in asyncio.all_tasks()) != number:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/activate/x", "/hooks/bounces", "/api/v1/requests", "/act"])
async def test_aborted_post_logs_no_error(
    open_served_site: OpenSite, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    async def act(request: Request) -> None:
        await read_form(request)

    async with open_served_site(bounce_domain="bounces.example") as site:
        site.app.add_api_route("/act", act, methods=["POST"])
        connection = Connection(*await asyncio.open_connection(*site.listener.getsockname()))
        await connection.send(FORM.replace(b"/activate/x", path.encode()))
        await wait_for_requests(1)
        await connection.close()
        await wait_for_requests(0)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
