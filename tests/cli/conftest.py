"""The client as its users run it: a process of its own, against a real server and worker."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.messages import RequestStatus, Status
from smart_accounts.contract.names import SEARCH_ATTRIBUTES, workflow_id
from smart_accounts.errors import SmartAccountsError
from smart_accounts.temporal.client import RequestClient
from tests.support.programs import Program
from tests.support.real_parts import PatientClient

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """What a run of the client left behind."""

    code: int | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


FreePort = Callable[[], int]


def environment(**more: str) -> dict[str, str]:
    """This machine's environment without settings of its own."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SMART_ACCOUNTS_", "TEMPORAL_", "COLUMNS", "PYTHONUNBUFFERED"))
    }
    return own | more


class Starter:
    """The client, for the server at ``address``."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder

    async def __call__(self, *args: str | Path) -> Ended:
        """Run the client as its users do, but without the time that Python takes to start."""
        folder = Path(mkdtemp(dir=self._folder))
        out, err = folder / "out", folder / "err"
        env = environment(TEMPORAL_ADDRESS=self._address)
        program = Program(ROOT / "starter.py", *args, cwd=folder, env=env, out=out, err=err)
        code = await asyncio.to_thread(program.wait, 60)
        return self._ended(code, out.read_text(), err.read_text())

    async def in_a_process_of_its_own(
        self, *args: str | Path, stdout: int = PIPE, stderr: int = PIPE, **more: str
    ) -> Ended:
        """Run the client with its output elsewhere, or with more environment variables."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            ROOT / "starter.py",
            *args,
            env=environment(TEMPORAL_ADDRESS=self._address, **more),
            stdin=DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        out, err = [(part or b"").decode() for part in await process.communicate()]
        return self._ended(process.returncode, out, err)

    def _ended(self, code: int | None, out: str, err: str) -> Ended:
        assert "Traceback" not in out + err, err
        return Ended(code, out, err)

    async def becomes(self, domain: str, status: Status) -> RequestStatus:
        """Wait until the newest request for the domain has this status."""
        client = await self.requests()
        async with asyncio.timeout(40):
            while True:
                with suppress(SmartAccountsError):  # not there yet, or no worker answers yet
                    found = await client.status(workflow_id(domain))
                    if found.status == status:
                        return found
                await asyncio.sleep(0.05)

    async def is_closed(self, domain: str) -> None:
        """Wait until the closing emails are sent too, so that the domain's workflow has ended."""
        handle = (await self._connect()).get_workflow_handle(workflow_id(domain))
        async with asyncio.timeout(40):
            while (await handle.describe()).status == WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.05)

    async def requests(self) -> RequestClient:
        return PatientClient(await self._connect())

    async def _connect(self) -> Client:
        return await Client.connect(self._address, data_converter=pydantic_data_converter)


@pytest.fixture(scope="session")
def alone(free_port: FreePort, tmp_path_factory: pytest.TempPathFactory) -> Starter:
    """The client where nothing listens."""
    return Starter(f"127.0.0.1:{free_port()}", tmp_path_factory.mktemp("client"))


@asynccontextmanager
async def running_temporal(port: int, **more: Any) -> AsyncIterator[str]:
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sys.executable).parent / "temporal"),
        dev_server_extra_args=[
            f"--search-attribute={name}={kind}" for name, kind in SEARCH_ATTRIBUTES.items()
        ],
        port=port,
        **more,
    ) as env:
        yield env.client.service_client.config.target_host


@pytest.fixture(scope="session")
async def temporal(free_port: FreePort) -> AsyncIterator[str]:
    async with running_temporal(port=free_port()) as address:
        yield address


@pytest.fixture(scope="session")
async def mail_port(free_port: FreePort) -> AsyncIterator[int]:
    """A mail server that takes every mail and keeps none."""
    server = Controller(_Sink(), hostname="127.0.0.1", port=free_port())
    server.start()
    yield server.port
    server.stop()


class _Sink:
    async def handle_DATA(self, *_: object) -> str:  # noqa: N802, named by aiosmtpd
        return "250 OK"


@asynccontextmanager
async def running_worker(directory: Path, address: str, mail_port: int) -> AsyncIterator[None]:
    log = directory / "worker.log"
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            ROOT / "worker.py",
            cwd=directory,
            env=environment(
                TEMPORAL_ADDRESS=address,
                SMART_ACCOUNTS_PUBLIC_URL="http://127.0.0.1:8000",
                SMART_ACCOUNTS_SECRET_KEYS="k" * 32,
                SMART_ACCOUNTS_SMTP_HOSTNAME="127.0.0.1",
                SMART_ACCOUNTS_SMTP_PORT=str(mail_port),
                SMART_ACCOUNTS_SMTP_TLS="none",
                SMART_ACCOUNTS_MAIL_FROM="smart-accounts@example.com",
            ),
            stdout=output,
            stderr=output,
        )
    try:
        while "worker ready" not in log.read_text():
            assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@pytest.fixture(scope="session")
async def starter(
    temporal: str, mail_port: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Starter]:
    """The client beside a server with a worker."""
    folder = tmp_path_factory.mktemp("worker")
    async with running_worker(folder, temporal, mail_port):
        yield Starter(temporal, folder)


@pytest.fixture
def worker_at(
    tmp_path: Path, free_port: FreePort
) -> Callable[[str], AbstractAsyncContextManager[None]]:
    """A worker whose mail server is away: its emails stay queued."""
    return lambda address: running_worker(tmp_path, address, free_port())


@pytest.fixture
def temporal_in(
    tmp_path: Path, free_port: FreePort
) -> Callable[[], AbstractAsyncContextManager[tuple[str, Starter]]]:
    """A server without a worker that can be stopped and started again where it was."""
    port = free_port()

    @asynccontextmanager
    async def run() -> AsyncIterator[tuple[str, Starter]]:
        file = str(tmp_path / "temporal.db")
        async with running_temporal(port=port, dev_server_database_filename=file) as address:
            yield address, Starter(address, tmp_path)

    return run
