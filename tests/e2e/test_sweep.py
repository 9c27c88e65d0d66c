"""The store and Temporal differ after an operator's mistake or a restore, and a sweep repairs it.

The tests share one installation. At the end of each test, a sweep finds no difference.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from temporalio.client import (
    Client,
    ScheduleActionExecutionStartWorkflow,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from smart_accounts.admin.__main__ import app
from smart_accounts.admin.erased_list import ErasedList
from smart_accounts.admin.eraser import Eraser
from smart_accounts.cli.run import run
from smart_accounts.contract.actions import Actor, Closing, NewApprover, Review, Role, Withdrawal
from smart_accounts.contract.messages import EmailState, SmartAccountRequest, Status
from smart_accounts.contract.names import (
    RESTARTS,
    SWEEP_ID,
    SWEEP_TYPE,
    TASK_QUEUE,
    WORKFLOW_TYPE,
    erased_id,
    remaining_emails_id,
)
from smart_accounts.store.decisions import TERMINATED
from smart_accounts.sweep.differences import Difference, Kind, Repair
from smart_accounts.sweep.executions import Executions
from smart_accounts.sweep.schedule import schedule_sweep
from smart_accounts.sweep.sweep import Choice
from smart_accounts.temporal.erasures import Erasures
from smart_accounts.temporal.histories import Histories
from smart_accounts.temporal.needed_keys import needed_by_next_sweep
from smart_accounts.temporal.records import Started
from tests.support.emails import REMINDER
from tests.support.histories import Keep
from tests.support.installation import Installation, kinds
from tests.support.keys import KEY
from tests.support.ledger import outcome_of
from tests.support.mail_server import MailServer
from tests.support.patient_client import wait_for_busy_temporal
from tests.support.temporal_server import NewDevServer, connect
from tests.support.webhooks import add_endpoint

TWO_HOURS = timedelta(hours=2)


@dataclass(frozen=True)
class Finished:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


class Command(Protocol):
    """Runs ``python -m smart_accounts.admin sweep`` with these options and variables."""

    async def __call__(self, *words: str, **environment: str) -> Finished: ...


@pytest.fixture(scope="module")
async def installation(
    new_dev_server: NewDevServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    file = tmp_path_factory.mktemp("installation") / "temporal.db"
    server, mail = new_dev_server(file, schedules=True), MailServer()
    # A run that has just closed is deleted once this interval has passed. It is half a minute.
    server.set_dynamic_config("history.transferProcessorUpdateAckInterval", "1s")
    await server.start()
    await mail.start()
    with pytest.MonkeyPatch.context() as patch:
        wait_for_busy_temporal(patch)
        yield Installation(server, file, mail)
    await mail.stop()
    await server.stop()


@pytest.fixture
async def here(installation: Installation) -> AsyncIterator[Installation]:
    """The installation, which runs. The test leaves no difference behind."""
    installation.mail.emails.clear()
    async with installation.running():
        yield installation
        await installation.until_agreement()


def commands_in_guide(name: str) -> list[str]:
    guide = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    [block] = re.findall(f"<!-- tested: {name} -->\n```sh\n(.*?)```", guide, re.DOTALL)
    return str(block).splitlines()


@pytest.fixture
def command(
    here: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line of the operator, in this process because a new one costs a second."""

    async def run_command(*words: str, **environment: str) -> Finished:
        with monkeypatch.context() as process:
            for name, value in (here.environment | environment).items():
                process.setenv(name, value)
            process.setattr(sys, "argv", ["admin", "sweep", *words])
            code = await asyncio.to_thread(run, app)
        return Finished(code, *capsys.readouterr())

    return run_command


async def test_terminated_request_is_withdrawn_and_the_customer_told(
    here: Installation, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await here.request("terminated.example", example)
    unasked = await here.request("unasked.example", example, customer_email="ada@other.example")
    await here.terminate(asked, unasked)
    assert await here.listed(asked) == [], "it would be shown as pending"
    assert kinds(await here.sweep(later=timedelta()), asked, unasked) == [], "it is too young"

    async def stop(*_given: object) -> bool:
        raise RuntimeError("The machine stops here.")

    with monkeypatch.context() as stopping:
        stopping.setattr(Executions, "start_emails", stop)
        with pytest.raises(RuntimeError):
            await here.sweep()
    for each in (asked, unasked):
        settled = await here.until(each, Status.WITHDRAWN)
        assert (settled.decided_by, settled.reason) == ("operator", TERMINATED)
    assert "withdrawn" not in here.mail.kinds()
    assert kinds(await here.sweep(), asked) == [Kind.EMAILS_UNSENT]
    await here.mail.wait_for("withdrawn", to="ada@terminated.example")
    mails = here.temporal.get_workflow_handle(remaining_emails_id(asked.request_id))
    await mails.result()
    assert here.mail.kinds().count("withdrawn") == 1, "nobody is told who was not asked"
    again = await here.request("terminated.example", example)
    await here.client.withdraw(again.workflow_id, Withdrawal())
    await here.until_ended(again, Status.WITHDRAWN)


async def test_closing_emails_of_a_terminated_workflow_are_sent(
    here: Installation, example: dict[str, Any]
) -> None:
    started = await here.request("closing.example", example)
    here.mail.refusals["bo@closing.example"] = "451 later"
    assert await here.answer(started.request_id, 1) == 303
    await here.mail.wait_for("activated")
    await here.terminate(started)
    assert kinds(await here.sweep(), started) == [Kind.EMAILS_UNSENT]
    assert (await here.sweep()).differences == [], "they are on their way"
    del here.mail.refusals["bo@closing.example"]
    await here.mail.wait_for("access-granted", to="bo@closing.example")
    assert here.mail.kinds().count("activated") == 1
    await here.until(started, Status.ACTIVE)


async def test_deleted_request_is_withdrawn_after_an_hour(
    here: Installation, example: dict[str, Any]
) -> None:
    deleted = await here.request("deleted.example", example)
    await here.delete(deleted)
    before = here.dump()
    report = await here.sweep(later=TWO_HOURS, dry_run=True)
    assert kinds(report, deleted) == [Kind.MISSING]
    assert here.dump() == before, "a dry run changes nothing"
    assert (await here.sweep()).differences[0].repair is Repair.WAITS
    assert (await here.sweep(later=timedelta(minutes=79))).differences[0].repair is Repair.WAITS
    assert (await here.sweep(later=timedelta(minutes=81))).differences[0].repair is Repair.WITHDRAWN
    await here.mail.wait_for("withdrawn", to="ada@deleted.example")
    await here.until(deleted, Status.WITHDRAWN)


async def test_webhooks_that_nobody_sends_are_handed_over_again(
    here: Installation, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await add_endpoint(here.store)
    await here.store.webhooks.ping(endpoint.id, datetime.now(UTC))
    hand_over_again, handed_over = here.store.deliveries.hand_over_again, []

    async def noted(endpoint_id: str) -> None:
        handed_over.append(endpoint_id)
        await hand_over_again(endpoint_id)

    monkeypatch.setattr(here.store.deliveries, "hand_over_again", noted)
    difference = Difference(Kind.WEBHOOKS_UNSENT, endpoint.id, Repair.HANDED_OVER)
    for dry_run in (True, False):
        report = await here.sweep(later=TWO_HOURS, dry_run=dry_run)
        assert report.differences == [difference]
        assert handed_over == ([] if dry_run else [endpoint.id])
    assert f"webhooks-unsent: endpoint {endpoint.id}: handed to Temporal again" in caplog.text
    await here.store.webhooks.delete(endpoint.id)


async def test_many_missing_requests_wait_for_the_operator(
    here: Installation, example: dict[str, Any], caplog: pytest.LogCaptureFixture, keep: Keep
) -> None:
    reminders = {"reminders": ["PT1S", "PT3S"]}
    pending = [
        await here.request(f"missing-{number}.example", example, **reminders)
        for number in range(1, 4)
    ]
    first = "ada@missing-1.example"
    await here.mail.wait_for("reminder", to=first)
    replaced = await here.request("replaced.example", example)
    new = NewApprover(customer_email="cy@replaced.example")
    await here.client.replace_approver(replaced.workflow_id, new)
    await here.mail.wait_for("activation", to="cy@replaced.example")
    in_review = await here.request("review.example", example, customer_email="ada@other.example")
    approved = await here.request("approved.example", example, customer_email="ada@more.example")
    await here.client.review(approved.workflow_id, Review(decision="approve"))
    await here.mail.wait_for("activation", to="ada@more.example")
    missing = [*pending, replaced, in_review, approved]
    await here.until(approved, Status.PENDING)
    await here.delete(*missing)
    await here.sweep()
    report = await here.sweep(later=TWO_HOURS)
    assert {each.repair for each in report.differences} == {Repair.HELD}
    assert "6 of 6 open requests are missing" in (report.held or "")
    assert "--restart-missing or --settle-missing" in caplog.text

    second_reminder_at = pending[2].requested_at + timedelta(seconds=3)
    await asyncio.sleep((second_reminder_at - datetime.now(UTC)).total_seconds())
    sent = [kind for kind in here.mail.kinds() if kind != "reminder"]
    report = await here.sweep(choice=Choice.RESTART)
    assert {each.repair for each in report.differences} == {Repair.RESTARTED}
    for each in missing:
        async with asyncio.timeout(40):
            while not (status := await here.client.status(each.workflow_id)).emails:
                await asyncio.sleep(0.02)
        stored = await here.until(each, Status.PENDING, Status.IN_REVIEW)
        assert (status.status, status.deadline) == (stored.status, stored.deadline)
        assert status.requested_at == stored.requested_at
    # If a busy worker is so late that both reminders are due at once, it sends only the second.
    second_reminder = REMINDER.model_copy(update={"number": 2})
    async with asyncio.timeout(40):
        while True:
            outcome = await outcome_of(here.store, pending[0].request_id, second_reminder)
            if outcome and outcome.state == EmailState.SENT:
                break
            await asyncio.sleep(0.02)
    ids = [message["Message-ID"] for message in here.mail.emails]
    assert len(ids) == len({*ids}), "no email was sent twice"
    again = [kind for kind in here.mail.kinds() if kind != "reminder"]
    assert again == sent, "the ledger knows these emails"
    await here.until_agreement()

    for each, ordinal in ((pending[0], 1), (replaced, 2), (approved, 1)):
        assert await here.answer(each.request_id, ordinal) == 303
        assert (await here.until_ended(each, Status.ACTIVE)).id == each.request_id
    handle = here.temporal.get_workflow_handle(pending[0].workflow_id)
    keep("restarted", await handle.fetch_history())
    assert await here.answer(pending[1].request_id, 1, "/decline") == 303
    await here.until(pending[1], Status.DECLINED)
    resent = await here.client.replace_approver(
        pending[2].workflow_id,
        NewApprover(customer_email="cy@missing-3.example"),
        run_id=pending[2].request_id,
    )
    assert resent.status is Status.PENDING
    await here.mail.wait_for("activation", to="cy@missing-3.example")
    await here.delete(pending[2], in_review)
    report = await here.sweep(choice=Choice.SETTLE)
    assert {each.repair for each in report.differences} == {Repair.WITHDRAWN}
    await here.mail.wait_for("withdrawn", to="cy@missing-3.example")
    await here.until(in_review, Status.WITHDRAWN)


async def test_sweeps_without_a_worker(installation: Installation, example: dict[str, Any]) -> None:
    here = installation
    async with here.running():
        lost = await here.request("no-worker.example", example)
        await here.delete(lost)
        await here.sweep()
    async with here.running(has_worker=False):
        report = await here.sweep(choice=Choice.RESTART)
        assert report.differences[0].repair is Repair.RESTARTED
        domain = {"account_domain": "unseen.example", "customer_email": "ada@unseen.example"}
        unseen = SmartAccountRequest.model_validate(example | domain)
        await here.handle(await here.client.start(unseen)).terminate()
        assert (await here.sweep(later=TWO_HOURS)).differences == [], "a run waits for a worker"
        await here.client.accept(lost.workflow_id, run_id=lost.request_id, link=1)
    async with here.running():
        await here.until_ended(lost, Status.ACTIVE)
        await here.until_agreement()


async def test_answer_that_a_lost_workflow_had_received_counts(
    here: Installation, example: dict[str, Any]
) -> None:
    started = await here.request("answered.example", example)
    await here.delete(started)
    await here.store.requests.note_signalled(started.request_id, 1, "accepted")
    await here.sweep(choice=Choice.RESTART)
    active = await here.until(started, Status.ACTIVE)
    assert active.decided_by == "ada@answered.example"


async def test_restart_is_only_for_missing_requests_and_with_the_same_input(
    here: Installation, example: dict[str, Any]
) -> None:
    victim = await here.request("victim.example", example)
    domain = {"account_domain": "victim.example", "customer_email": "ada@victim.example"}
    same = example | domain | {"user_emails": ["bo@victim.example"]}

    async def fails(request: dict[str, Any]) -> None:
        handle = await here.temporal.start_workflow(
            WORKFLOW_TYPE,
            SmartAccountRequest.model_validate(request),
            id=victim.workflow_id,
            task_queue=TASK_QUEUE,
            memo={RESTARTS: victim.request_id},
        )
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
        assert isinstance(failure.value.cause, ApplicationError)
        assert "restarts: must name a request" in failure.value.cause.message

    await here.delete(victim)
    await fails(same)
    await here.sweep()  # notes that it is missing
    await fails(same | {"customer_email": "mallory@victim.example"})
    stored = await here.until(victim, Status.PENDING)
    assert stored.customer_email == "ada@victim.example"
    assert (await here.sweep(choice=Choice.RESTART)).differences[0].repair is Repair.RESTARTED
    await here.until_agreement()
    await here.client.withdraw(victim.workflow_id, Withdrawal(), run_id=victim.request_id)
    await here.until(victim, Status.WITHDRAWN)


async def test_wrong_namespace_changes_nothing(here: Installation, example: dict[str, Any]) -> None:
    started = await here.request("elsewhere.example", example)
    await here.sweep()
    config = (await connect(here.server, await here.new_namespace("elsewhere"))).config()
    elsewhere = Client(**config | {"data_converter": here.worker_client().data_converter})
    before = here.dump()
    async with asyncio.timeout(40):
        while True:
            report = await here.sweep(later=TWO_HOURS, client=elsewhere)
            if report.differences:
                break
    assert kinds(report, started) == [Kind.MISSING]
    assert report.held == "Temporal's namespace is not the one that the last sweep saw."
    assert here.dump() == before
    await here.client.withdraw(started.workflow_id, Withdrawal())
    await here.until_ended(started, Status.WITHDRAWN)


async def test_store_restored_from_an_older_backup(
    installation: Installation, example: dict[str, Any], keep: Keep
) -> None:
    this, operator = installation, Actor(role=Role.OPERATOR, subject="opal")
    async with this.running():
        waits = await this.request("waits.example", example)
        accepts = await this.request("accepts.example", example)
        declines = await this.request("declines.example", example)
        is_replaced = await this.request("is-replaced.example", example)
        other = {"customer_email": "ada@other-company.example"}
        is_approved = await this.request("is-approved.example", example, **other)
        closes = await this.request("closes.example", example)
        assert await this.answer(closes.request_id, 1) == 303
        await this.until_ended(closes, Status.ACTIVE)
        saved = this.saved(this.store_file)

        assert await this.answer(accepts.request_id, 1) == 303
        assert await this.answer(declines.request_id, 1, "/decline") == 303
        new = NewApprover(customer_email="cy@is-replaced.example")
        await this.client.replace_approver(is_replaced.workflow_id, new)
        await this.client.review(is_approved.workflow_id, Review(decision="approve"))
        reason = Closing(account_domain="closes.example", reason="They asked us.", by=operator)
        await this.client.close(closes.request_id, reason)
        fresh = await this.request("fresh.example", example, reminders=["P40D"])
        gone = await this.request("gone.example", example)
        await this.client.withdraw(gone.workflow_id, Withdrawal(reason="A mistake.", by=operator))
        reviewed = await this.request("reviewed.example", example, **other)
        closed = await this.request("twice.example", example)
        assert await this.answer(closed.request_id, 1) == 303
        await this.until_ended(closed, Status.ACTIVE)
        twice = reason.model_copy(update={"account_domain": "twice.example"})
        await this.client.close(closed.request_id, twice)
        twice_open = await this.request("twice.example", example)
        for each, status in (
            (accepts, Status.ACTIVE),
            (declines, Status.DECLINED),
            (gone, Status.WITHDRAWN),
        ):
            await this.until_ended(each, status)
        await this.mail.wait_for("activation", to="cy@is-replaced.example")
        await this.mail.wait_for("activation", to="ada@other-company.example")
        ended = {each.request_id for each in (accepts, declines, gone, closes, closed)}
        await this.until_listed(
            lambda runs: (
                {run for run, status in runs.items() if status is WorkflowExecutionStatus.COMPLETED}
                >= ended
            )
        )
        await this.until_agreement()
        before = this.rows()
    this.restore_store(saved)
    async with this.running():
        assert this.rows() != before
        found = await this.sweep()
        assert kinds(
            found,
            *(waits, accepts, declines, is_replaced, is_approved),
            *(closes, fresh, gone, reviewed, closed, twice_open),
        ) == [
            *[Kind.STORE_BEHIND] * 4,
            Kind.ACCOUNT_OPEN,
            *[Kind.NOT_STORED] * 3,
            Kind.ACCOUNT_OPEN,
            Kind.NOT_STORED,
        ]
        assert found.differences[-3].repair is Repair.DOMAIN_TAKEN, "until its account is closed"
        assert kinds(await this.sweep(), twice_open) == [Kind.NOT_STORED]
        assert this.rows() == before
        assert await this.answer(is_replaced.request_id, 2) == 303
        assert await this.answer(is_replaced.request_id, 1) == 410
        await this.until_ended(is_replaced, Status.ACTIVE)
        keep("accepted-through-a-second-link", await this.handle(is_replaced).fetch_history())
        for each in (waits, is_approved, fresh, reviewed, twice_open):
            await this.client.withdraw(each.workflow_id, Withdrawal())
            await this.handle(each).result()
        await this.until_agreement()


def eraser(this: Installation, erased: ErasedList) -> Eraser:
    client = this.temporal
    return Eraser(this.store, this.client, Histories(client), Erasures(client), erased)


async def check_nobody_is_told(this: Installation, *ended: Started) -> None:
    for each in ended:
        with pytest.raises(RPCError, match="not found"):
            await this.temporal.get_workflow_handle(remaining_emails_id(each.request_id)).describe()


async def test_store_restored_from_before_an_erasure(
    installation: Installation, example: dict[str, Any], tmp_path: Path, keep: Keep
) -> None:
    """Nobody is told of an end that the store did not know. An active account stays."""
    this, erased = installation, ErasedList(tmp_path / "erased.txt", [KEY])
    async with this.running():
        ends = await this.request("erased-ends.example", example)
        replaced = await this.request("erased-again.example", example)
        active = await this.request("erased-active.example", example)
        saved = this.saved(this.store_file)
        assert await this.answer(active.request_id, 1) == 303
        await this.until_ended(active, Status.ACTIVE)
        for address in ("ada@erased-ends", "ada@erased-again", "bo@erased-active"):
            await eraser(this, erased).erase(f"{address}.example")
        before = {each["id"]: each["status"] for each in this.rows()["requests"]}
        kept = this.temporal.get_workflow_handle(erased_id(active.request_id))
        await kept.result()
        keep("erased-request", await kept.fetch_history())
    this.restore_store(saved)
    this.mail.emails.clear()
    async with this.running():
        # The new request takes the earlier one for terminated, so that emails about that are due.
        again = await this.request("erased-again.example", example)
        for dry_run in (True, False):
            report = await this.sweep(later=TWO_HOURS, dry_run=dry_run)
            assert kinds(report, ends, replaced, active) == [Kind.STORE_BEHIND] * 3
        assert {each.repair for each in report.differences} == {Repair.REBUILT}
        assert (await this.sweep(later=2 * TWO_HOURS)).differences == []
        after = {each["id"]: each["status"] for each in this.rows()["requests"]}
        assert after == before | {again.request_id: "pending"}
        users = {each["email"] for each in this.rows()["account_users"]}
        assert "ada@erased-active.example" in users
        await eraser(this, erased).erase_listed(dry_run=False)
        assert "bo@erased-active.example" not in this.dump()
        assert "ada@erased-ends.example" not in this.dump()
        await this.until(again, Status.PENDING)  # the person came back
        await check_nobody_is_told(this, ends, replaced, active)
        assert sorted(this.mail.kinds()) == ["activation", "request-received"]
        await this.client.withdraw(again.workflow_id, Withdrawal())
        await this.until_ended(again, Status.WITHDRAWN)
        await this.until_agreement()


async def test_domain_was_requested_again_before_the_sweep(
    installation: Installation, example: dict[str, Any]
) -> None:
    this = installation
    async with this.running():
        first = await this.request("again.example", example)
        saved = this.saved(this.store_file)
        assert await this.answer(first.request_id, 1) == 303
        await this.until_ended(first, Status.ACTIVE)
    this.restore_store(saved)
    async with this.running():
        second = await this.request("again.example", example)
        await this.until(first, Status.WITHDRAWN)  # the second start took it for terminated
        report = await this.sweep()
        repairs = {each.request_id: each.repair for each in report.differences}
        assert repairs == {first.request_id: Repair.DOMAIN_TAKEN}
        await this.client.withdraw(second.workflow_id, Withdrawal())
        await this.until_ended(second, Status.WITHDRAWN)
        await this.sweep()
        await this.until(first, Status.ACTIVE)
        assert "withdrawn" not in this.mail.kinds("ada@again.example")[:-1]
        await this.until_agreement()


async def test_temporal_restored_from_an_older_backup(
    installation: Installation, example: dict[str, Any]
) -> None:
    this = installation
    async with this.running():
        waits = await this.request("still-waits.example", example)
        accepts = await this.request("has-accepted.example", example)
        await this.sweep()
    saved = this.saved(this.temporal_file)
    async with this.running():
        assert await this.answer(accepts.request_id, 1) == 303
        await this.until_ended(accepts, Status.ACTIVE)
        fresh = await this.request("is-fresh.example", example)
    await this.restore_temporal(saved)
    async with this.running():
        sent = sorted(this.mail.kinds())
        report = await this.sweep(later=TWO_HOURS, choice=Choice.RESTART)
        assert kinds(report, waits, accepts, fresh) == [Kind.TEMPORAL_BEHIND, Kind.MISSING]
        assert (await this.handle(accepts).result())["status"] == "active"
        assert await this.answer(fresh.request_id, 1) == 303
        await this.until_ended(fresh, Status.ACTIVE)
        await this.until(accepts, Status.ACTIVE)
        new = sorted(("activated", "welcome", "access-granted"))
        assert sorted(this.mail.kinds()) == sorted(sent + new), "no email went out twice"
        await this.client.withdraw(waits.workflow_id, Withdrawal())
        await this.until_ended(waits, Status.WITHDRAWN)
        await this.until_agreement()


async def test_command_restarts_what_is_missing(
    here: Installation, example: dict[str, Any], command: Command
) -> None:
    lost = await here.request("command.example", example)
    await here.delete(lost)
    await here.make_older(lost, timedelta(hours=3))
    await here.sweep()
    listed = await command("--dry-run", "--json")
    difference = {"kind": "missing", "request_id": lost.request_id}
    assert json.loads(listed.out)["differences"] == [
        difference | {"repair": "withdrawn once it is missing for an hour"}
    ]
    assert listed.code == 0
    for line in commands_in_guide("compare the store"):
        assert (await command(*line.split()[4:])).code == 0
    assert (await command("--restart-missing", "--settle-missing")).code == 2
    wrong = await command(TEMPORAL_NAMESPACE=await here.new_namespace("other"))
    assert wrong.code == 1
    assert "Temporal's namespace is not the one that the last sweep saw." in wrong.out
    down = await command(TEMPORAL_ADDRESS="127.0.0.1:1")
    assert (down.code, down.err) == (3, "Temporal does not respond. Nothing was lost; try again.\n")
    restarted = await command("--restart-missing")
    assert restarted.code == 0, restarted
    shown = f"{Kind.MISSING} {lost.request_id} {Repair.RESTARTED} 1 open request, 1 difference."
    assert " ".join(restarted.out.split()).endswith(shown)
    await here.until_agreement()
    assert await here.listed(lost) == [(lost.request_id, Status.PENDING)]
    assert await here.answer(lost.request_id, 1) == 303
    await here.until_ended(lost, Status.ACTIVE)


async def reset(here: Installation, started: Started) -> str:
    """Reset the newest run of a request. Returns the new run once Temporal lists it."""
    done = await here.server.cli(
        *("workflow", "reset", "-w", started.workflow_id),
        *("--type=FirstWorkflowTask", "--reason=a bad release"),
    )
    assert done.returncode == 0, done.stderr
    newest = await here.temporal.get_workflow_handle(started.workflow_id).describe()
    await here.until_listed(lambda runs: newest.run_id in runs)
    return newest.run_id


async def until_continued(here: Installation, started: Started) -> None:
    """Wait until the newest run of a request waits for the customer."""
    async with asyncio.timeout(40):
        while not (await here.client.status(started.workflow_id)).emails:
            await asyncio.sleep(0.02)


async def test_request_that_was_reset_is_known(here: Installation, example: dict[str, Any]) -> None:
    started = await here.request("reset.example", example)
    newest_run = await reset(here, started)
    assert (await here.sweep()).differences == []
    assert [status for _, status in await here.listed(started)] == [Status.PENDING]
    known = await here.store.comparison.find(newest_run)
    assert known
    assert known.id == started.request_id
    assert await here.answer(started.request_id, 1) == 303
    await here.until_ended(started, Status.ACTIVE)


async def test_request_that_was_restarted_and_reset_is_known(
    here: Installation, example: dict[str, Any]
) -> None:
    answers = await here.request("restarted-answers.example", example)
    ends = await here.request("restarted-ends.example", example)
    await here.delete(answers, ends)
    await here.sweep()
    await here.sweep(choice=Choice.RESTART)
    for each in (answers, ends):
        await until_continued(here, each)
        newest_run = await reset(here, each)
        await until_continued(here, each)
    # One request is as in a store that was restored from a backup from before the restart.
    await here.store.comparison.set_run(answers.request_id, answers.request_id)
    assert (await here.sweep()).differences == []
    await here.temporal.get_workflow_handle(ends.workflow_id).terminate()
    await here.until_listed(lambda runs: runs[newest_run] is WorkflowExecutionStatus.TERMINATED)
    await reset(here, answers)
    found = [each.kind for each in (await here.sweep()).differences]
    assert found == [Kind.TERMINATED, Kind.EMAILS_UNSENT]
    await here.until(ends, Status.WITHDRAWN)
    assert await here.answer(answers.request_id, 1) == 303
    await here.until_ended(answers, Status.ACTIVE)


async def test_schedule_starts_the_sweep(here: Installation, keep: Keep) -> None:
    client = here.worker_client()
    await schedule_sweep(client)
    schedule = client.get_schedule_handle(SWEEP_ID)
    await schedule.pause(note="Maintenance.")
    await schedule_sweep(client)  # at the start of the next worker
    assert (await schedule.describe()).schedule.state.paused
    await schedule.trigger()
    async with asyncio.timeout(40):
        while not (done := (await schedule.describe()).info.recent_actions):
            await asyncio.sleep(0.05)
    assert isinstance(done[0].action, ScheduleActionExecutionStartWorkflow)
    sweep = client.get_workflow_handle(done[0].action.workflow_id)
    assert await sweep.result() == {"differences": {}, "is_held": False}
    assert (await sweep.describe()).workflow_type == SWEEP_TYPE
    keep("sweep", await sweep.fetch_history())
    # Temporal gives the result of the last sweep to the next one, also after a long pause.
    assert await needed_by_next_sweep(client) == {None}
    await schedule.delete()
    assert await needed_by_next_sweep(client) == set()
