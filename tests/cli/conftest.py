"""The command line with a real Temporal server and worker."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter

from smart_accounts.cli.run import run
from smart_accounts.contract.messages import RequestStatus, Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.errors import SmartAccountsError
from smart_accounts.temporal import client, closing, running, starting
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.errors import RPC_TIMEOUT
from starter import app
from tests.support.keys import KEY
from tests.support.patient_client import PatientClient
from tests.support.ports import FreePort
from tests.support.programs import Program, stop_process
from tests.support.temporal_server import NewDevServer

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finished:
    """The exit code and the output of one run of the command line."""

    code: int | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def clean_environment(**more: str) -> dict[str, str]:
    """Return this machine's environment without settings that change the output."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SMART_ACCOUNTS_", "TEMPORAL_", "COLUMNS", "PYTHONUNBUFFERED"))
    }
    return kept | more


class Starter:
    """``starter.py``, connected to the Temporal server at ``address``.

    A busy machine may miss the product's two seconds, so commands in this process get more time.
    """

    def __init__(
        self, address: str, folder: Path, rpc_timeout: timedelta = timedelta(seconds=40)
    ) -> None:
        self.rpc_timeout = rpc_timeout
        self._address = address
        self._folder = folder
        self._turn = asyncio.Lock()

    async def __call__(self, *args: str | Path, encoding: str = "utf-8") -> Finished:
        """Run a command as users do, but in this process. Commands run one after the other."""
        async with self._turn:
            return await asyncio.to_thread(self._run, args, encoding)

    def _run(self, args: Sequence[str | Path], encoding: str) -> Finished:
        out, err = (TextIOWrapper(BytesIO(), encoding, write_through=True) for _ in range(2))
        with pytest.MonkeyPatch.context() as process, redirect_stdout(out), redirect_stderr(err):
            process.chdir(self._folder)  # it has no settings in a file
            for name in os.environ.keys() - clean_environment().keys():
                process.delenv(name)
            process.setenv("TEMPORAL_ADDRESS", self._address)
            for module in (client, closing, running, starting):
                process.setattr(module, "RPC_TIMEOUT", self.rpc_timeout)
            process.setattr(sys, "argv", ["starter.py", *map(str, args)])
            code = run(app)
        for stream in (out, err):
            stream.seek(0)
        return self._finished(code, out.read(), err.read())

    async def run_in_new_interpreter(
        self, *args: str | Path, stdout: int = PIPE, stderr: int = PIPE, **more: str
    ) -> Finished:
        """Run a command with other output streams or with more environment variables."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            ROOT / "starter.py",
            *args,
            env=clean_environment(TEMPORAL_ADDRESS=self._address, **more),
            stdin=DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        encoding = more.get("PYTHONIOENCODING", "utf-8")
        out, err = [(part or b"").decode(encoding) for part in await process.communicate()]
        return self._finished(process.returncode, out, err)

    def _finished(self, code: int | None, out: str, err: str) -> Finished:
        assert "Traceback" not in out + err, err
        return Finished(code, out, err)

    async def wait_for_status(self, domain: str, status: Status) -> RequestStatus:
        """Wait until the newest request for the domain has this status."""
        requests = await self.client()
        async with asyncio.timeout(40):
            while True:
                with suppress(SmartAccountsError):  # not started yet, or no worker runs yet
                    found = await requests.status(workflow_id(domain))
                    if found.status == status:
                        return found
                await asyncio.sleep(0.05)

    async def wait_until_closed(self, domain: str) -> None:
        """Wait until the workflow of the domain has also sent its closing emails."""
        handle = (await self._connect()).get_workflow_handle(workflow_id(domain))
        async with asyncio.timeout(40):
            while (await handle.describe()).status == WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.05)

    async def client(self) -> RequestClient:
        return PatientClient(await self._connect())

    async def _connect(self) -> Client:
        return await Client.connect(self._address, data_converter=pydantic_data_converter)


StartWorker = Callable[[str], AbstractAsyncContextManager[None]]
"""Runs a worker for the Temporal server at an address."""
StartTemporal = Callable[[], AbstractAsyncContextManager[tuple[str, Starter]]]
"""Runs a Temporal server. Returns its address and a ``Starter`` for it."""


@pytest.fixture(scope="session")
def offline_starter(free_port: FreePort, tmp_path_factory: pytest.TempPathFactory) -> Starter:
    """A ``Starter`` whose Temporal server does not exist."""
    address = f"127.0.0.1:{free_port()}"
    return Starter(address, tmp_path_factory.mktemp("starter"), RPC_TIMEOUT)


@pytest.fixture(scope="session")
async def mail_port(free_port: FreePort) -> AsyncIterator[int]:
    """The port of a mail server that accepts every email and stores none."""
    server = Controller(_DiscardEmails(), hostname="127.0.0.1", port=free_port())
    server.start()
    yield server.port
    server.stop()


class _DiscardEmails:
    async def handle_DATA(self, *_: object) -> str:  # noqa: N802 - aiosmtpd's name
        return "250 OK"


@asynccontextmanager
async def running_worker(directory: Path, address: str, mail_port: int) -> AsyncIterator[None]:
    log = directory / "worker.log"
    environment = clean_environment(
        TEMPORAL_ADDRESS=address,
        SMART_ACCOUNTS_PUBLIC_URL="http://127.0.0.1:8000",
        SMART_ACCOUNTS_SECRET_KEYS=KEY,
        SMART_ACCOUNTS_SMTP_HOSTNAME="127.0.0.1",
        SMART_ACCOUNTS_SMTP_PORT=str(mail_port),
        SMART_ACCOUNTS_SMTP_TLS="none",
        SMART_ACCOUNTS_MAIL_FROM="smart-accounts@example.com",
    )
    worker = Program(ROOT / "worker.py", cwd=directory, env=environment, out=log, err=log)
    try:
        while "worker ready" not in log.read_text():
            assert worker.poll() is None, log.read_text()
            await asyncio.sleep(0.05)
        yield
    finally:
        await stop_process(worker)


@pytest.fixture(scope="session")
async def starter(
    new_dev_server: NewDevServer, mail_port: int, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Starter]:
    """A ``Starter`` whose Temporal server has a worker.

    The server is not shared, because this worker would run the requests of other tests.
    """
    server, folder = new_dev_server(), tmp_path_factory.mktemp("worker")
    await server.start()
    async with running_worker(folder, server.address, mail_port):
        yield Starter(server.address, folder)
    await server.stop()


@pytest.fixture
def start_worker(tmp_path: Path, free_port: FreePort) -> StartWorker:
    """Runs a worker whose mail server is down, so that its emails stay queued."""
    return lambda address: running_worker(tmp_path, address, free_port())


@pytest.fixture
def start_temporal(new_dev_server: NewDevServer, tmp_path: Path) -> StartTemporal:
    """Runs a Temporal server without a worker. It keeps its data when it is started again."""
    server = new_dev_server(tmp_path / "temporal.db")

    @asynccontextmanager
    async def run() -> AsyncIterator[tuple[str, Starter]]:
        await server.start()
        try:
            yield server.address, Starter(server.address, tmp_path)
        finally:
            await server.stop()

    return run
