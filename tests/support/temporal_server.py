"""The Temporal dev server of the CLI, as a process of its own."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from smart_accounts.contract.names import SEARCH_ATTRIBUTES
from tests.support.ports import FreePort
from tests.support.programs import stop_process

CLI = Path(sys.executable).with_name("temporal")


class DevServer:
    """One dev server. With ``file`` it keeps its data over a restart, with ``ui_port`` it has a UI.

    It has no schedules unless a test needs them, because tests with stores of their own share a
    server, and a sweep of one of them would add the requests of the others to its store.

    Only a durable one would survive a crash of the machine.

    ``cli`` runs a command of the Temporal CLI, as another client would.
    """

    def __init__(
        self,
        port: int,
        http_port: int,
        file: Path | None = None,
        ui_port: int | None = None,
        *,
        schedules: bool = False,
        is_durable: bool = False,
    ) -> None:
        self.address = f"127.0.0.1:{port}"
        self.http_address = f"127.0.0.1:{http_port}"
        self._command = [
            str(CLI),
            "server",
            "start-dev",
            "--log-level=never",
            f"--port={port}",
            f"--ui-port={ui_port}" if ui_port else "--headless",
            f"--http-port={http_port}",
        ]
        if not schedules:
            self._command.append("--dynamic-config-value=frontend.enableSchedules=false")
        if file:
            self._command.append(f"--db-filename={file}")
            if not is_durable:
                self._command.append("--sqlite-pragma=synchronous=off")
        for name, kind in SEARCH_ATTRIBUTES.items():
            self._command.append(f"--search-attribute={name}={kind}")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def set_dynamic_config(self, name: str, value: str | int) -> None:
        """Set an option of the server before it is started."""
        self._command.append(f"--dynamic-config-value={name}={json.dumps(value)}")

    async def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(40):
            while not await self._is_healthy():
                await asyncio.sleep(0.1)

    async def _is_healthy(self) -> bool:
        # The CLI has a command for this, which takes a tenth of a second of CPU time.
        try:
            client = await Client.connect(self.address)
            return await client.service_client.check_health()
        except (RuntimeError, RPCError):
            return False

    async def stop(self, signum: int = signal.SIGTERM) -> None:
        if self._process:
            await stop_process(self._process, signum)
            self._process = None

    async def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(CLI), *words, "--address", self.address]
        return await asyncio.to_thread(
            lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        )


class NewDevServer(Protocol):
    """Returns a dev server on a free port that is not started yet."""

    def __call__(
        self, file: Path | None = None, ui_port: int | None = None, *, schedules: bool = False
    ) -> DevServer: ...


@pytest.fixture(scope="session")
def new_dev_server(free_port: FreePort) -> NewDevServer:
    return lambda file=None, ui_port=None, *, schedules=False: DevServer(
        free_port(), free_port(), file, ui_port, schedules=schedules
    )


@pytest.fixture(scope="session")
async def dev_server(new_dev_server: NewDevServer) -> AsyncIterator[DevServer]:
    server = new_dev_server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def temporal(dev_server: DevServer) -> Client:
    return await connect(dev_server)


async def connect(server: DevServer, namespace: str = "default") -> Client:
    return await Client.connect(
        server.address, namespace=namespace, data_converter=pydantic_data_converter
    )


async def terminate_open_workflows(temporal: Client) -> None:
    """Terminate open workflows, because the next worker would run them on another database."""
    async for execution in temporal.list_workflows("ExecutionStatus = 'Running'"):
        with suppress(RPCError):  # the list is a little behind, so the workflow may have ended
            await temporal.get_workflow_handle(execution.id).terminate()
