"""What ``make run`` starts, once for each process that runs tests."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from smart_accounts.local.configuration import free_ports
from tests.support.browser import PATIENCE_SECONDS


@dataclass(frozen=True)
class Stack:
    ports: dict[str, int]

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    async def link(self, customer: str, after: str = "") -> str:
        """The link in the customer's newest activation email, once one is there with another."""
        api, link = f"{self.url('MAILBOX_PORT')}/api/v1", f"{self.url('WEB_PORT')}/activate/"
        async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient() as http:
            while True:
                for listed in (await http.get(f"{api}/messages")).json()["messages"]:
                    text = (await http.get(f"{api}/message/{listed['ID']}")).json()["Text"]
                    found = re.search(rf"{re.escape(link)}\S+", text)
                    if found and listed["To"][0]["Address"] == customer and found[0] != after:
                        return found[0]
                await asyncio.sleep(0.1)


@pytest.fixture(scope="session")
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
