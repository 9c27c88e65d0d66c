"""Run the commands of docs/operations.md as they are, but with the addresses of the test's servers.

The way from ``make run`` to production comes first: everything else runs on what it has set up.
"""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from smart_accounts.contract.actions import NewApprover, Withdrawal
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.store.migrate import revisions
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

GUIDE = "docs/operations.md"
NAMESPACE = "smart-accounts"
DATABASE = "db.example.com:5432"
PYTHON = ".venv/bin/python"
RESEND = f"{PYTHON} -m smart_accounts.admin resend --by oda"
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
        script = code_block(GUIDE, name)
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


async def test_first_request(production: Production) -> None:
    assert (production.folder / ".env").stat().st_mode & 0o077 == 0
    await production.bash(production.block("is it ready"))
    code, shown = await production.python(production.block("first request"))
    assert (code, "pending" in shown) == (0, True), shown
    email = await production.mail.wait_for("activation", "you@corp.example")
    assert email["Return-Path"].endswith("@bounces.example.com")
    assert "https://accounts.example.com/activate/" in str(email)
    assert "temporal_" in await production.bash(production.block("metrics"))


async def test_resend_to_all_that_match(production: Production) -> None:
    mail = production.mail
    recipients = [_customer(await production.new_request()) for _ in range(2)]
    for to in recipients:
        await mail.wait_for("activation", to)
    await asyncio.sleep(3)  # a new link needs this pause
    script = production.block("resend to all that match")
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    script = script.replace("2026-11-01T00:00:00Z", hour_ago.strftime("%Y-%m-%dT%H:%M:%SZ"))
    dry_run, real_run = re.findall(r"\.venv.*?'\"\n", script, re.DOTALL)
    code, shown = await production.python(dry_run)
    assert (code, [to in shown for to in recipients]) == (0, [True, True]), shown
    assert [mail.kinds(to) for to in recipients] == [["activation"]] * 2
    for result in ("resent", "skipped"):
        _, shown = await production.python(real_run)
        assert len(re.findall(rf"corp-\d+\.example +{result} ", shown)) >= 2, shown
        await production.until(lambda: _were_sent_twice(mail, recipients))
    assert [mail.kinds(to).count("activation") for to in recipients] == [2, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--returned --query x", "Give either --query or --returned."),
        ("--query ' '", "--query: must not be empty"),
        ("--query 'Start > 1'", "--query: is not a list filter of Temporal: "),
    ],
)
async def test_bad_options_of_resend(production: Production, words: str, message: str) -> None:
    code, shown = await production.python(f"{RESEND} {words}")
    assert (code, message in shown) == (2, True), shown


async def test_resend_takes_only_open_requests(production: Production) -> None:
    started = await production.new_request()
    await production.client.withdraw(started.workflow_id, Withdrawal())
    await production.temporal.get_workflow_handle(started.workflow_id).result()
    _, shown = await production.python(
        f"{RESEND} --dry-run --query \"SmartAccountStatus IS NOT NULL OR SmartAccountStatus = ''\""
    )
    assert started.workflow_id not in shown


def _customer(started: Started) -> str:
    return started.workflow_id.replace("smart-account-", "ada@")


async def _were_sent_twice(mail: MailServer, recipients: list[str]) -> bool:
    return all(mail.kinds(to).count("activation") >= 2 for to in recipients)


async def test_resend_what_was_returned(production: Production) -> None:
    started = await production.new_request(
        requester={"email": "kim@returned.example", "name": "Kim", "company": "Returned"}
    )
    to = _customer(started)
    await production.returned("activation", to)
    await production.returned("request-received", "kim@returned.example")
    await asyncio.sleep(3)  # a new link needs this pause
    script = production.block("resend what was returned")
    code, shown = await production.python(script)
    assert (code, "1 request: 1 resent." in shown) == (0, True), shown
    await production.until(lambda: _were_sent_twice(production.mail, [to]))
    assert await production.python(script) == (0, "No open request matches.\n")
    others = await production.bash(production.block("list other returned emails"))
    assert "request-received,kim@returned.example," in others
    assert "550 5.7.1 policy" in others
    assert to not in others
    event = "SELECT role, action, email FROM audit_events JOIN people ON person_id = people.id"
    database = f"postgresql://postgres@{production.addresses[DATABASE]}/smart_accounts"
    found = await production.bash(
        f"psql {database} -At -c \"{event} WHERE request_id = '{started.request_id}'\""
    )
    assert found == "operator|resend|Oda Ray\n"


async def test_emails_are_tried_at_once(production: Production) -> None:
    await production.mail.stop()
    requests = [await production.new_request() for _ in range(2)]

    async def tried(least: int) -> bool:
        found = [max((await production.attempts(each)).values(), default=0) for each in requests]
        return min(found) >= least

    async def was_reset() -> bool:
        return not await tried(4)

    await production.until(lambda: tried(4))
    await production.bash(production.block("try all emails at once"), answer="y\n")
    await production.until(was_reset)
    await production.until(lambda: tried(4))
    for each in requests:
        [activity_id] = await production.attempts(each)
        one = production.block("try the emails of one request at once")
        one = one.replace("smart-account-acme.example", each.workflow_id)
        await production.bash(one, ACTIVITY_ID=activity_id)
    await production.until(was_reset)
    await production.mail.start()
    for each in requests:
        await production.mail.wait_for("activation", _customer(each))


async def test_rate_limit_delays_emails_but_no_new_link(production: Production) -> None:
    limit = production.block("limit the rate of emails")

    async def set_limit(value: str) -> str:
        return await production.bash(limit.replace("-limit 5", f"-limit {value}"))

    assert "0.10 rps" in await set_limit("0.1")
    try:
        requests = [await production.new_request() for _ in range(4)]
        for each in requests:
            await production.until(partial(_is_pending, production, each))
        last = requests[-1]
        new = NewApprover(customer_email=_customer(last).replace("ada", "cy"))
        await production.client.replace_approver(last.workflow_id, new)
        unsent = [each for each in requests if not production.mail.kinds(_customer(each))]
        assert len(unsent) >= 2, "the limit has no effect"
    finally:
        await set_limit("default")
    await production.mail.wait_for("activation", new.customer_email)


async def _is_pending(production: Production, started: Started) -> bool:
    status = await production.client.status(started.workflow_id)
    return status.status is Status.PENDING


async def test_end_many_requests(production: Production) -> None:
    started = await production.new_request()
    await production.mail.wait_for("activation", _customer(started))
    domain = started.workflow_id.removeprefix("smart-account-")
    script = production.block("end many requests").replace("corp.example", domain)
    shown = await production.bash(script, answer="y\n")
    assert "Total: 1" in shown
    await production.mail.wait_for("withdrawn", _customer(started))


async def test_find_requests_that_are_stuck(production: Production) -> None:
    shown = await production.bash(production.block("find requests that are stuck"))
    assert "smart-account" not in shown


async def test_backup_and_restore(production: Production) -> None:
    started = await production.new_request()
    await production.mail.wait_for("activation", _customer(started))
    await production.bash(production.block("back up the database"))
    await production.stop()
    await production.bash(production.block("restore the database"))
    revision = await production.bash(production.block("revision of the schema"))
    assert revision.strip() == revisions()[-1]
    await production.start()
    await production.client.accept(started.workflow_id)
    await production.mail.wait_for("welcome", _customer(started))


def test_every_command_is_run_by_a_test() -> None:
    """Where no test runs a command, its section says so."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for section in re.split("^## ", (ROOT / GUIDE).read_text(), flags=re.MULTILINE):
        if "**Neither was run by us.**" in section:
            continue
        for before, script in re.findall(r"(.*\n) *```sh\n(.*?)```", section, re.DOTALL):
            [name] = re.findall(r"<!-- tested: (.*) -->\n\Z", before) or [""]
            assert f'"{name}"' in tests, script
