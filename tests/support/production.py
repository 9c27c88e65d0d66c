"""The production that docs/production.md sets up, with the addresses of the test's servers."""

import asyncio
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.records import Started
from tests.support.bounce_reports import report
from tests.support.documents import ROOT, code_block
from tests.support.mail_server import MailServer
from tests.support.patient_client import PatientClient
from tests.support.ports import FreePort
from tests.support.postgres import Postgres
from tests.support.programs import Program, stop_process
from tests.support.temporal_server import DevServer, connect

GUIDES = ("docs/production.md", "docs/operations.md")
NAMESPACE = "smart-accounts"
DATABASE = "db.example.com:5432"
PYTHON = ".venv/bin/python"
SHORT = "PT5M"  # a request with this window can be resent after three seconds

_numbers = count(1)


@dataclass
class Production:
    """What the guide sets up: PostgreSQL, a namespace, settings, a worker and a web server."""

    folder: Path
    temporal: Client
    mail: MailServer
    addresses: dict[str, str]
    """For each address in the guide: the address of the test's server."""
    environment: dict[str, str]
    running: list[Program] = field(default_factory=list)

    @property
    def client(self) -> RequestClient:
        return PatientClient(self.temporal)

    @property
    def web(self) -> str:
        return f"http://{self.addresses['127.0.0.1:8000']}"

    def block(self, name: str) -> str:
        [guide] = [each for each in GUIDES if f"tested: {name} -->" in (ROOT / each).read_text()]
        script = code_block(guide, name)
        for address, here in self.addresses.items():
            script = script.replace(address, here)
        return script

    async def bash(self, script: str, answer: str = "", **more: str) -> str:
        """Run a script with the answer to its question. Return its output."""
        done = await asyncio.to_thread(
            lambda: subprocess.run(
                ["bash", "-euc", script.replace(PYTHON, sys.executable)],
                env=self.environment | more,
                cwd=self.folder,
                input=answer,
                text=True,
                capture_output=True,
                check=False,
            )
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def launch(self, command: list[str]) -> tuple[Program, Path]:
        """Start a Python program of the guide, without the time that Python takes to start."""
        assert command[0] == PYTHON
        words = [ROOT / word if word.endswith(".py") else word for word in command[1:]]
        log = self.folder / f"log-{next(_numbers)}"
        program = Program(*words, cwd=self.folder, env=self.environment, out=log, err=log)
        return program, log

    async def python(self, script: str) -> tuple[int, str]:
        """Run each command of a script. Return the highest exit status and the output."""
        code, output = 0, ""
        for line in script.replace("\\\n", " ").splitlines():
            program, log = self.launch(shlex.split(line))
            code = max(code, await asyncio.to_thread(program.wait, 60))
            output += log.read_text()
        return code, output

    async def start(self) -> None:
        for name in ("start the worker", "start the web server"):
            program, log = self.launch(shlex.split(self.block(name)))
            self.running.append(program)
            async with asyncio.timeout(40):
                while "worker" in name and "worker ready" not in log.read_text():
                    assert program.poll() is None, log.read_text()
                    await asyncio.sleep(0.05)
        async with httpx.AsyncClient() as http, asyncio.timeout(40):
            while not await _is_ready(http, self.web):
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        while self.running:
            await stop_process(self.running.pop())

    async def new_request(self, **changes: Any) -> Started:
        """Start a request for a domain of its own. Return once its emails are sent."""
        domain = f"corp-{next(_numbers)}.example"
        request = {
            "account_name": "Acme",
            "customer_email": f"ada@{domain}",
            "requester": {"email": "pat@partner.example", "name": "Pat", "company": "Partner"},
            "acceptance_window": SHORT,
        }
        return await self.client.start(SmartAccountRequest.model_validate(request | changes))

    async def until(self, condition: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(40):
            while not await condition():
                await asyncio.sleep(0.1)

    async def returned(self, kind: str, to: str) -> None:
        """Report that an email came back because of a policy."""
        email = await self.mail.wait_for(kind, to)
        policy = "Action: failed\nStatus: 5.7.1\nDiagnostic-Code: smtp; 550 5.7.1 policy"
        content = report(headers=f"To: {email['Return-Path']}", recipients=policy)
        async with httpx.AsyncClient(timeout=30) as http:
            done = await http.post(f"{self.web}/hooks/bounces", content=content)
            assert done.status_code == 204

    async def attempts(self, started: Started) -> dict[str, int]:
        """Return for each waiting activity how often it was tried."""
        handle = self.temporal.get_workflow_handle(started.workflow_id)
        waiting = (await handle.describe()).raw_description.pending_activities
        return {each.activity_id: each.attempt for each in waiting}


async def _is_ready(http: httpx.AsyncClient, address: str) -> bool:
    try:
        return (await http.get(f"{address}/readyz")).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
async def production(
    dev_server: DevServer,
    postgres: Postgres,
    free_port: FreePort,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Production]:
    mail, folder = MailServer(), tmp_path_factory.mktemp("production")
    await mail.start()
    web, metrics = free_port(), free_port()
    programs = (postgres.programs, Path(sys.executable).parent)
    environment = {
        "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "TEMPORAL_ADDRESS": dev_server.address,
        "TEMPORAL_NAMESPACE": NAMESPACE,
        # The settings file names a mail server with TLS and a password.
        "SMART_ACCOUNTS_SMTP_HOSTNAME": "127.0.0.1",
        "SMART_ACCOUNTS_SMTP_PORT": str(mail.port),
        "SMART_ACCOUNTS_SMTP_TLS": "none",
        "SMART_ACCOUNTS_SMTP_USERNAME": "",
        "SMART_ACCOUNTS_SMTP_PASSWORD": "",
        "SMART_ACCOUNTS_WEB_PORT": str(web),
        "SMART_ACCOUNTS_EMAILS_THROUGH_QUEUE": "true",  # for the rate limit
    }
    addresses = {
        DATABASE: f"127.0.0.1:{postgres.port}",
        "temporal.example.com:7233": dev_server.address,
        "127.0.0.1:8000": f"127.0.0.1:{web}",
        "127.0.0.1:9464": f"127.0.0.1:{metrics}",
    }
    temporal = await connect(dev_server, NAMESPACE)
    opened = Production(folder, temporal, mail, addresses, environment)
    steps = ("create the database", "create the namespace", "write the settings")
    await opened.bash("\n".join(map(opened.block, steps)))
    await opened.start()
    yield opened
    await opened.stop()
    await mail.stop()
