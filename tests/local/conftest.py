"""What ``make run`` starts, once for a file of tests, and browsers to look at it."""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from smart_accounts.local.plan import free_ports

PATIENCE = 20  # seconds, for a machine that has much else to do


@dataclass(frozen=True)
class Stack:
    ports: dict[str, int]

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    async def link(self, customer: str, after: str = "") -> str:
        """The link in the customer's newest activation mail, once one is there with another."""
        api, link = f"{self.url('MAILBOX_PORT')}/api/v1", f"{self.url('WEB_PORT')}/activate/"
        async with asyncio.timeout(PATIENCE), httpx.AsyncClient() as http:
            while True:
                for listed in (await http.get(f"{api}/messages")).json()["messages"]:
                    text = (await http.get(f"{api}/message/{listed['ID']}")).json()["Text"]
                    found = re.search(rf"{re.escape(link)}\S+", text)
                    if found and listed["To"][0]["Address"] == customer and found[0] != after:
                        return found[0]
                await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    ports = free_ports()
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "SMART_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "smart_accounts.local", "run"),
        cwd=tmp_path_factory.mktemp("home"),
        env=bare | {name: str(port) for name, port in ports.items()},
        stdout=PIPE,
    )
    assert process.stdout
    try:
        async with asyncio.timeout(60):
            assert await process.stdout.readuntil(b"Ctrl-C stops it all.")
        yield Stack(ports)
    finally:
        process.terminate()
        await process.communicate()


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
    expect.set_options(timeout=5000)


@pytest.fixture
async def new_page(chromium: Browser) -> AsyncIterator[Callable[..., Awaitable[Page]]]:
    async def opened(**options: Any) -> Page:
        context = await chromium.new_context(**options)
        # The local provider's pages load a style sheet from afar; tests stay on this machine.
        here = re.compile("http://127.0.0.1:")
        await context.route(lambda url: not here.match(url), lambda route: route.abort())
        return await context.new_page()

    yield opened
    for context in chromium.contexts:
        await context.close()
