"""Erase a person who was in every role, on a real Temporal server with its data in a file."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from temporalio.service import RPCError

from smart_accounts.admin.erase import erase
from smart_accounts.contract.actions import Closing
from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import closing_id, remaining_emails_id
from smart_accounts.errors import BadSetting, Rejected
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.executions import Executions
from smart_accounts.temporal.histories import Histories
from smart_accounts.temporal.records import Started
from tests.support.documents import code_block
from tests.support.erasure import ADA, Story
from tests.support.mail_server import MailServer
from tests.support.patient_client import wait_for_busy_temporal
from tests.support.ports import FreePort
from tests.support.programs import stop_process
from tests.support.service import Service
from tests.support.temporal_server import NewDevServer, connect

WORDS = ("ada@acme.example", "ada+work@acme.example", "ada byron", ADA.subject)
"""What must not be left of Ada."""


@pytest.fixture
async def service(
    new_dev_server: NewDevServer,
    mail_server: MailServer,
    free_port: FreePort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Service]:
    server = new_dev_server(tmp_path / "temporal.db")
    # A run that has just closed is deleted once this interval has passed. It is half a minute.
    server.set_dynamic_config("history.transferProcessorUpdateAckInterval", "1s")
    await server.start()
    url = f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    temporal = await connect(server)
    running = Service(server, temporal, mail_server, url, free_port(), tmp_path)
    running.settings["SMART_ACCOUNTS_ERASED_LIST"] = str(tmp_path / "erased.txt")
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    wait_for_busy_temporal(monkeypatch)
    await running.start_worker()
    yield running
    await stop(running)


def closing_of(domain: str) -> Closing:
    by = {"role": "operator", "subject": "opal"}
    return Closing.model_validate({"account_domain": domain, "reason": "Ada leaves.", "by": by})


def hits(path: Path, *words: str) -> dict[str, int]:
    """Count the words in a database, in a copy of its file without what was freed."""
    copy = path.with_suffix(".copy")
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{copy}'")
    text = copy.read_bytes().lower()
    return {word: count for word in words if (count := text.count(word.encode()))}


async def stop(service: Service) -> None:
    for process in service.processes:
        await stop_process(process)
    await service.server.stop()


async def wait_until_gone(path: Path, *words: str) -> None:
    """Wait until Temporal has removed the histories, which follows the end of the executions."""
    async with asyncio.timeout(60):
        while hits(path, *words):
            await asyncio.sleep(0.2)


async def run(**options: Any) -> None:
    """Run the command as Typer does, in this process."""
    await erase.__wrapped__(**options)  # type: ignore[attr-defined]  # functools.wraps sets it


async def refuse_to_erase_an_approver(story: Story, approved: Started) -> None:
    """Nothing is erased in another namespace, nor while Ada approves for an active account."""
    comparison = story.store.comparison
    await comparison.set_namespace("another")
    with pytest.raises(BadSetting, match="TEMPORAL_NAMESPACE: the requests of this database run"):
        await run(email=ADA.email)
    await comparison.set_namespace(await Executions(story.service.temporal).namespace_id())
    with pytest.raises(Rejected, match=f"--request-id {approved.request_id}"):
        await run(email="ADA+x@acme.example")
    assert not (story.service.folder / "erased.txt").exists()
    await story.client.close(approved.request_id, closing_of("approved.acme.example"))


async def run_command(service: Service, command: str) -> str:
    """Run a command of the guide. Return its output."""
    before = len(service.log)
    program = service.launch(*command.split()[1:])
    assert await asyncio.to_thread(program.wait, 90) == 0, service.log
    return service.log[before:]


async def restore(service: Service, stored: Path, temporal: Path, withdrawn: list[Started]) -> None:
    """Restore Temporal, then the store. Each brings Ada back, until she is erased again."""
    await stop(service)
    shutil.copy(temporal.with_suffix(".backup"), temporal)
    await service.server.start()
    assert set(hits(temporal, *WORDS)) == set(WORDS)
    again = code_block("docs/operations.md", "erase again after a restore")
    nobody = "Erased mailboxes that were in the database again: 0."
    assert nobody in await run_command(service, again)
    await wait_until_gone(temporal, *WORDS)
    shutil.copy(stored.with_suffix(".backup"), stored)
    assert set(hits(stored, *WORDS)) == set(WORDS)
    await run(again=True)  # also before the sweep
    assert hits(stored, *WORDS) == {}
    async with AccountStore.open(service.database_url) as store:
        found = [await store.requests.find(each.request_id) for each in withdrawn]
        assert [each and each.status for each in found] == [Status.WITHDRAWN] * len(withdrawn)
        assert await store.comparison.emails_due() == []


async def test_person_in_every_role_is_erased(service: Service, example: dict[str, Any]) -> None:
    stored, temporal = service.folder / "store.db", service.folder / "temporal.db"
    async with AccountStore.open(service.database_url) as store:
        story = Story(service, store, example)
        own, replaced, added, approved, (declined, next_one) = await asyncio.gather(
            story.makes_a_request(),
            story.is_replaced_as_approver(),
            story.gets_access(),
            story.approves(),
            story.declines(),
        )
        await story.uses_the_pages(own.request_id)
        await refuse_to_erase_an_approver(story, approved)
        dry_run, real_run = code_block("docs/operations.md", "erase a person").splitlines()
        plan = await run_command(service, dry_run)
        assert "own.acme.example, pending: requester; would be withdrawn" in plan
        assert "replaced.acme.example, pending: named; would be withdrawn" in plan
        assert set(hits(stored, *WORDS)) == set(hits(temporal, *WORDS)) == set(WORDS)
        for path in (stored, temporal):
            shutil.copy(path.with_suffix(".copy"), path.with_suffix(".backup"))

        done = await run_command(service, real_run)
        assert done.count("Withdrawn: ") == 2
        assert ADA.email not in done
        again = await run_command(service, real_run)
        assert "The database has nothing about this address." in again
        ids = (own.request_id, replaced.request_id, added.request_id, next_one.request_id)
        statuses = [each.status for id_ in ids if (each := await store.requests.find(id_))]
        assert statuses == ["withdrawn", "withdrawn", "active", "pending"]
        assert (await story.client.status(next_one.workflow_id)).status is Status.PENDING
        for its_id in remaining_emails_id(declined.request_id), closing_id(approved.request_id):
            with pytest.raises(RPCError, match="not found"):
                await service.temporal.get_workflow_handle(its_id).describe()
        # The account without its erased user can still be closed.
        await story.client.close(added.request_id, closing_of("added.acme.example"))
        await service.mail.wait_for("closed", "bo@x.example")
        account = await store.requests.find(added.request_id)
        assert account
        await Histories(service.temporal).wait_for_end(account)
        assert hits(stored, *WORDS) == {}
        await story.purges_ended_requests()
    await wait_until_gone(temporal, *WORDS, "cy@ended.acme.example")
    await restore(service, stored, temporal, [own, replaced])
