"""Limits of the web server, and clients that go away."""

import asyncio
import logging

import pytest
from fastapi import Request

from smart_accounts.web.http.forms import read_form
from tests.support.site import OpenSite

HEADERS = b"Host: 127.0.0.1\r\n"
FORM = b"POST /activate/x HTTP/1.1\r\n" + HEADERS + b"Content-Length: 1000\r\n\r\n"


class Connection:
    """One connection to the site, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.transport.abort()


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
        logger = logging.getLogger("uvicorn.error")  # it does not propagate to the root logger
        logger.addHandler(caplog.handler)
        connection = Connection(*await asyncio.open_connection(*site.listener.getsockname()))
        await connection.send(FORM.replace(b"/activate/x", path.encode()))
        await wait_for_requests(1)
        await connection.close()
        await wait_for_requests(0)
        logger.removeHandler(caplog.handler)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
