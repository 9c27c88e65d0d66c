"""The local stack, started from the command line as a user starts it."""

import asyncio
import contextlib
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from smart_accounts.local.configuration import ROOT, check_ports
from tests.support.browser import PATIENCE_SECONDS
from tests.support.ports import stack_ports

STACK_COMMAND = [sys.executable, "-m", "smart_accounts.local"]
END_OF_ANNOUNCEMENT = b"Press Ctrl-C to stop."
# A shell starts background commands with SIGINT ignored. SIGHUP gets its default action, because
# the tests themselves may run under nohup.
AS_BACKGROUND_COMMAND = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def new_environment(**values: str) -> dict[str, str]:
    """Return an environment without settings of the service, as a new user has it."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "SMART_"))}
    return inherited | values


async def run(*command: str | Path, cwd: Path = ROOT, **values: str) -> tuple[int, str, str]:
    """Run the command. Return its exit status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=new_environment(**values), stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@dataclass(frozen=True)
class RunningStack:
    process: Process
    home: Path
    ports: dict[str, int]

    def url(self, port: str) -> str:
        return f"http://127.0.0.1:{self.ports[port]}"

    async def ready(self, within: float = 60) -> str:
        """Wait until the stack is ready, and return what it printed."""
        assert self.process.stdout
        assert self.process.stderr
        try:
            async with asyncio.timeout(within):
                text = (await self.process.stdout.readuntil(END_OF_ANNOUNCEMENT)).decode()
        except asyncio.IncompleteReadError:
            pytest.fail((await self.process.stderr.read()).decode())
        assert text.startswith("ready")
        return text

    def programs(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    async def wait_for_program(self, name: str) -> psutil.Process:
        async with asyncio.timeout(40):
            while True:
                for program in self.programs():
                    if name in " ".join(program.cmdline()):
                        return program
                await asyncio.sleep(0.05)

    async def wait_for_exit(self, programs: list[psutil.Process]) -> tuple[int, str]:
        """Check that no program and no port is left. Return the exit status and the errors."""
        assert self.process.stderr
        err = (await self.process.stderr.read()).decode()
        status = await self.process.wait()
        assert [program for program in programs if program.is_running()] == []
        check_ports(self.ports)
        return status, err

    async def activation_link(self, customer: str, other_than: str = "") -> str:
        """Wait for an activation email to the customer with another link. Return its link."""
        api, start = f"{self.url('MAILBOX_PORT')}/api/v1", f"{self.url('WEB_PORT')}/activate/"
        async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient() as http:
            while True:
                for listed in (await http.get(f"{api}/messages")).json()["messages"]:
                    text = (await http.get(f"{api}/message/{listed['ID']}")).json()["Text"]
                    link = re.search(rf"{re.escape(start)}\S+", text)
                    to_customer = listed["To"][0]["Address"] == customer
                    if link and to_customer and link[0] != other_than:
                        return link[0]
                await asyncio.sleep(0.1)


@asynccontextmanager
async def start_stack(
    home: Path, ports: dict[str, int] | None = None
) -> AsyncIterator[RunningStack]:
    ports = ports or stack_ports()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        AS_BACKGROUND_COMMAND,
        *STACK_COMMAND,
        "run",
        cwd=home,
        env=new_environment(**{name: str(port) for name, port in ports.items()}),
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )
    try:
        yield RunningStack(process, home, ports)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        _, err = await process.communicate()
        sys.stderr.write(err.decode())  # pytest shows this for a failed test
