"""One installation whose two databases can be saved and restored while nothing runs."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select, update
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.settings import Settings
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.migrate import migrate
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.differences import Kind, Report
from smart_accounts.sweep.sweep import Choice, Sweeper
from smart_accounts.temporal.guard import worker_data_converter
from smart_accounts.temporal.records import Started
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from tests.support.keys import KEY
from tests.support.mail_server import MailServer
from tests.support.patient_client import PatientClient
from tests.support.store import Rows
from tests.support.temporal_server import DevServer, connect
from tests.support.web_settings import client_settings
from worker import run_worker

SOON = timedelta(minutes=20)
"""The sweep ignores what is younger than ten minutes."""
TABLES = {
    "requests": "id, status, customer_email, requester_subject, added_users, needs_attention,"
    " requested_at, deadline, link_ordinal, decided_at, decided_by, reason, approved_at,"
    " needs_review, is_reported, closed_at, closed_by, close_reason, idempotency_key, reminders,"
    " search_text",
    "accounts": "*",
    "account_users": "*",
    "activation_links": "*",
}
"""What a rebuilt store must have as before. The ledger of emails is not rebuilt."""


class Installation:
    """Temporal and a store, both in files, with a worker and the customer's pages."""

    def __init__(self, server: DevServer, temporal_file: Path, mail: MailServer) -> None:
        self.server = server
        self.mail = mail
        self.settings = Settings(
            _env_file=None,
            public_url="https://accounts.example",
            secret_keys=KEY,
            smtp_hostname="127.0.0.1",
            smtp_port=mail.port,
            smtp_tls="none",
            mail_from="no-reply@accounts.example",
            max_starts_per_requester_per_hour=500,
        )
        self.store_file = temporal_file.with_name("store.db")
        self.temporal_file = temporal_file
        self.url = f"sqlite+aiosqlite:///{self.store_file}"
        self.tokens = LinkTokens([KEY])
        self.temporal: Client
        self.store: AccountStore
        self.client: PatientClient
        self.http: httpx.AsyncClient

    @asynccontextmanager
    async def running(self, *, has_worker: bool = True) -> AsyncIterator[None]:
        """Run the customer's pages and the worker."""
        self.temporal = await connect(self.server)
        self.client = PatientClient(self.temporal)
        await migrate(self.url)
        async with AsyncExitStack() as stack:
            self.store = await stack.enter_async_context(AccountStore.open(self.url))
            app = create_app(self.store, self.client, self.tokens, self.settings)
            self.http = await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app), base_url="https://accounts.example"
                )
            )
            if has_worker:
                worker = run_worker(self.worker_client(), self.settings, self.store)
                await stack.enter_async_context(worker)
            yield

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a worker."""
        return {
            "TEMPORAL_ADDRESS": self.server.address,
            "SMART_ACCOUNTS_PUBLIC_URL": "https://accounts.example",
            "SMART_ACCOUNTS_SECRET_KEYS": KEY,
            "SMART_ACCOUNTS_DATABASE_URL": self.url,
            "SMART_ACCOUNTS_SMTP_HOSTNAME": "127.0.0.1",
            "SMART_ACCOUNTS_MAIL_FROM": "no-reply@accounts.example",
        }

    def worker_client(self) -> Client:
        config = self.temporal.config()
        config["data_converter"] = worker_data_converter(client_settings())
        return Client(**config)

    # ---- people --------------------------------------------------------------------------

    async def request(self, domain: str, example: dict[str, Any], **changes: Any) -> Started:
        """Make a request, and wait until the customer has its link or an operator must review."""
        named = json.loads(json.dumps(example).replace("acme.example", domain)) | changes
        started = await self.client.start(SmartAccountRequest.model_validate(named))
        await self.until(started, Status.PENDING, Status.IN_REVIEW)
        return started

    async def answer(self, request_id: str, ordinal: int, answer: str = "") -> int:
        """Accept through a link's page, or decline. Return the status of the response."""
        token = self.tokens.candidates(request_id, ordinal)[0]
        response = await self.http.post(f"/activate/{token}{answer}", data={"agree": "yes"})
        return response.status_code

    async def until(self, started: Started, *statuses: Status) -> StoredRequest:
        """Wait until the store has a request with one of these statuses, and its emails left."""
        async with asyncio.timeout(40):
            while True:
                found = await self.store.requests.find(started.request_id)
                if found and found.status in statuses:
                    emails = await self.store.emails.of_request(found.id)
                    opening = 2 if found.status is Status.PENDING else 1
                    if len(emails) >= opening and all(
                        status.state == "sent" for _, status in emails
                    ):
                        return found
                await asyncio.sleep(0.02)

    async def until_ended(self, started: Started, status: Status) -> StoredRequest:
        """Wait for the end of the workflow, or of the newest run after a reset or a restart."""
        await self.temporal.get_workflow_handle(started.workflow_id).result()
        return await self.until(started, status)

    def handle(self, started: Started) -> WorkflowHandle[Any, Any]:
        return self.temporal.get_workflow_handle(started.workflow_id, run_id=started.request_id)

    async def make_older(self, started: Started, age: timedelta) -> None:
        """Change the age of a request in the store, for programs that take the real time."""
        requests = tables.requests
        is_it = requests.c.id == started.request_id
        async with transaction(self.store.engine, writes=True) as connection:
            row = (await connection.execute(select(requests).where(is_it))).one()
            await connection.execute(
                update(requests)
                .where(is_it)
                .values(requested_at=row.requested_at - age, deadline=row.deadline - age)
            )

    async def new_namespace(self, name: str) -> str:
        await self.server.cli("operator", "namespace", "create", "-n", name)
        return name

    async def terminate(self, *requests: Started) -> None:
        """Terminate workflows, and wait until Temporal's list shows it."""
        for started in requests:
            await self.handle(started).terminate()
        await self.until_listed(
            lambda runs: (
                {runs.get(each.request_id) for each in requests}
                == {WorkflowExecutionStatus.TERMINATED}
            )
        )

    async def delete(self, *requests: Started) -> None:
        """Delete workflows from Temporal, and wait until its list no longer has them."""
        for started in requests:
            deleted = await self.server.cli(
                *("workflow", "delete", "--yes", "-w", started.workflow_id)
            )
            assert deleted.returncode == 0, deleted.stderr
        await self.until_listed(
            lambda runs: not runs.keys() & {each.request_id for each in requests}
        )

    async def until_listed(
        self, expected: Callable[[dict[str, WorkflowExecutionStatus | None]], bool]
    ) -> None:
        """Wait until Temporal's list, which is a little behind, has the expected runs."""
        async with asyncio.timeout(40):
            while not expected(
                {each.run_id: each.status async for each in self.temporal.list_workflows()}
            ):
                await asyncio.sleep(0.05)

    async def listed(self, started: Started) -> list[tuple[str, Status | None]]:
        """Return request id and status of each row that ``starter.py list`` has for a domain."""
        return [
            (each.request_id, each.status)
            async for each in self.client.list()
            if each.workflow_id == started.workflow_id
        ]

    # ---- the operator --------------------------------------------------------------------

    async def sweep(
        self,
        *,
        later: timedelta = SOON,
        choice: Choice = Choice.WAIT,
        dry_run: bool = False,
        client: Client | None = None,
    ) -> Report:
        """Run a sweep as if so much time had passed."""
        now = datetime.now(UTC) + later
        return await Sweeper(
            client or self.worker_client(),
            self.store,
            self.tokens,
            choice=choice,
            dry_run=dry_run,
            now=now,
        ).run()

    async def until_agreement(self) -> None:
        """Wait until a sweep finds no difference, because Temporal's list is a little behind."""
        async with asyncio.timeout(40):
            while found := (await self.sweep(later=2 * SOON, dry_run=True)).differences:
                assert found
                await asyncio.sleep(0.1)

    def saved(self, file: Path) -> bytes:
        """Return a backup of the store or of Temporal."""
        copy = file.with_name("copy.db")
        with (
            closing(sqlite3.connect(file)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
        return copy.read_bytes()

    def dump(self) -> str:
        """Return all that the store has, as SQL."""
        with closing(sqlite3.connect(self.store_file)) as connection:
            return "\n".join(connection.iterdump())

    def restore_store(self, saved: bytes) -> None:
        """Restore a backup. Nothing may run."""
        for path in self.store_file.parent.glob("store.db*"):
            path.unlink()
        self.store_file.write_bytes(saved)

    async def restore_temporal(self, saved: bytes) -> None:
        """Restore a backup. Nothing may run."""
        await self.server.stop()
        for path in self.temporal_file.parent.glob(f"{self.temporal_file.name}*"):
            path.unlink()
        self.temporal_file.write_bytes(saved)
        await self.server.start()

    def rows(self) -> dict[str, Rows]:
        """Return what the store has of all requests."""
        with closing(sqlite3.connect(self.store_file)) as connection:
            connection.row_factory = sqlite3.Row
            return {
                table: sorted(
                    (dict(row) for row in connection.execute(f"SELECT {columns} FROM {table}")),
                    key=str,
                )
                for table, columns in TABLES.items()
            }


def kinds(report: Report, *requests: Started) -> list[Kind]:
    """Return the differences of these requests, in their order."""
    found = {each.request_id: each.kind for each in report.differences}
    assert found.keys() <= {each.request_id for each in requests}, report.differences
    return [found[each.request_id] for each in requests if each.request_id in found]
