"""The whole service: worker and web as processes, Temporal, a database and a mail server."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client, WorkflowHandle

from smart_accounts.contract.messages import EmailState, RequestStatus, SmartAccountRequest, Status
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.records import Started
from tests.support.keys import KEY
from tests.support.mail_server import MailServer
from tests.support.patient_client import PatientClient
from tests.support.ports import FreePort
from tests.support.programs import Program, stop_process
from tests.support.store import Query, QueryDatabase
from tests.support.temporal_server import DevServer, terminate_open_workflows

ROOT = Path(__file__).parents[2]


@dataclass
class Service:
    """Worker and web as the processes that production runs, with one database."""

    server: DevServer
    temporal: Client
    mail: MailServer
    database_url: str
    web_port: int
    folder: Path
    processes: list[Program] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    """Environment variables that a test adds."""

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

    @property
    def log(self) -> str:
        """The output of all processes."""
        return (self.folder / "log.txt").read_text()

    def launch(self, *command: str | Path, **changes: str) -> Program:
        environment, log = self.environment | changes, self.folder / "log.txt"
        program = Program(*command, cwd=ROOT, env=environment, out=log, err=log)
        self.processes.append(program)
        return program

    async def start_worker(self, program: str | Path = "worker.py", **changes: str) -> Program:
        """Start a worker and return once it is ready."""
        ready_before = self.log.count("worker ready") if self.processes else 0
        process = self.launch(program, **changes)
        async with asyncio.timeout(40):
            while self.log.count("worker ready") == ready_before:
                assert process.poll() is None, self.log
                await asyncio.sleep(0.05)
        return process

    async def start_web(self) -> str:
        """Start the web application and return its address once it is ready."""
        self.launch("-m", "smart_accounts.web")
        address = f"http://127.0.0.1:{self.web_port}"
        async with httpx.AsyncClient() as http, asyncio.timeout(40):
            while True:
                with suppress(httpx.TransportError):
                    if (await http.get(f"{address}/readyz")).status_code == 200:
                        return address
                await asyncio.sleep(0.05)

    async def kill(self, worker: Program) -> None:
        assert await stop_process(worker, signal.SIGKILL) == -signal.SIGKILL

    def requests(self) -> RequestClient:
        return PatientClient(self.temporal)

    async def start(self, request: dict[str, Any]) -> Started:
        return await self.requests().start(SmartAccountRequest.model_validate(request))

    async def wait_for(self, started: Started, status: Status, sent: int = 0) -> RequestStatus:
        """Wait until a request has this status and has sent at least so many emails."""
        await self.requests().outcome(started)
        async with asyncio.timeout(40):
            while True:
                now = await self.requests().status(started.workflow_id, run_id=started.request_id)
                done = [email for email in now.emails if email.state == EmailState.SENT]
                if now.status == status and len(done) >= sent:
                    return now
                await asyncio.sleep(0.05)

    def handle(self, started: Started) -> WorkflowHandle[Any, Any]:
        return self.temporal.get_workflow_handle(started.workflow_id, run_id=started.request_id)


_numbers = count(1)


@pytest.fixture
def new_request(example: dict[str, Any]) -> dict[str, Any]:
    """A request for a domain that no other test uses, because tests share the server."""
    domain = f"acme-{next(_numbers)}.example"
    renamed: dict[str, Any] = json.loads(json.dumps(example).replace("acme.example", domain))
    return renamed


@asynccontextmanager
async def _running_service(
    server: DevServer,
    temporal: Client,
    mail: MailServer,
    database_url: str,
    port: int,
    folder: Path,
) -> AsyncIterator[Service]:
    service = Service(server, temporal, mail, database_url, port, folder)
    yield service
    for process in service.processes:
        if process.poll() is None:
            await stop_process(process)
    await terminate_open_workflows(temporal)


@pytest.fixture
async def service(
    dev_server: DevServer,
    temporal: Client,
    mail_server: MailServer,
    database_url: str,
    free_port: FreePort,
    tmp_path: Path,
) -> AsyncIterator[Service]:
    async with _running_service(
        dev_server, temporal, mail_server, database_url, free_port(), tmp_path
    ) as running:
        yield running


@pytest.fixture
async def service_on_any_database(
    dev_server: DevServer,
    temporal: Client,
    mail_server: MailServer,
    any_database_url: str,
    free_port: FreePort,
    tmp_path: Path,
) -> AsyncIterator[Service]:
    async with _running_service(
        dev_server, temporal, mail_server, any_database_url, free_port(), tmp_path
    ) as running:
        yield running


@pytest.fixture
def query_service(service: Service, query_database: QueryDatabase) -> Query:
    """Query the database of the service directly."""
    return lambda statement: query_database(service.database_url, statement)
