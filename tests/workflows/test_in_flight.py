"""What happens while a step or an email is under way: nothing is lost, torn or held back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.messages import (
    Addressee,
    Bounce,
    Email,
    EmailKind,
    EmailState,
    Status,
    Withdrawal,
)
from smart_accounts.errors import Rejected
from tests.support.real_parts import end_what_is_left

CUSTOMER, REQUESTER, OTHER = "ada@acme.example", "pat@partner.example", "cy@acme.example"


@pytest.fixture
async def env(temporal: Client) -> AsyncIterator[WorkflowEnvironment]:
    """The real server: the time-skipping one does not tell a running activity of its end."""
    yield WorkflowEnvironment.from_client(temporal)
    await end_what_is_left(temporal)


async def in_flight(mail_server: Any, count: int) -> None:
    async with asyncio.timeout(40):
        while mail_server.slow_at < count:
            await asyncio.sleep(0.02)


async def test_decision_while_an_email_is_being_refused(story: Any, mail_server: Any) -> None:
    mail_server.slow = {CUSTOMER, REQUESTER}
    mail_server.refusals = dict.fromkeys(mail_server.slow, "451 later")
    async with story.worker():
        await story.start()
        await in_flight(mail_server, 2)
        await story.client.accept(story.started.workflow_id)
        await story.until(Status.ACTIVE)
        mail_server.slow = set()
        await asyncio.sleep(0.5)
        mail_server.refusals = {}
        async with asyncio.timeout(60):
            assert (await story.handle.result())["status"] == "active"
        assert (await story.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
    assert sorted(mail_server.kinds()) == ["access-granted", "activated", "welcome"]


async def test_new_approver_waits_for_nobody_elses_email(story: Any, mail_server: Any) -> None:
    mail_server.slow = {CUSTOMER}
    mail_server.refusals = {REQUESTER: "451 later"}
    async with story.worker():
        await story.start()
        await in_flight(mail_server, 1)
        await story.replace(OTHER)
        mail_server.slow = set()
        async with asyncio.timeout(40):
            await mail_server.wait_for("activation", OTHER)
        now = await story.until(Status.PENDING, sent=2)
        assert (EmailKind.REQUEST_RECEIVED, EmailState.QUEUED) in {
            (mail.kind, mail.state) for mail in now.emails
        }


async def test_approver_who_was_asked_at_the_decision_stays(
    story: Any, mail_server: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue_link, asked, decided = story.store.issue_link, asyncio.Event(), asyncio.Event()

    async def held_link(*args: Any) -> Any:
        asked.set()
        await decided.wait()
        return await issue_link(*args)

    monkeypatch.setattr(story.store, "issue_link", held_link)
    async with story.worker():
        await story.start(user_emails=[])
        await story.until(Status.PENDING, sent=2)
        replacing = asyncio.create_task(story.replace(OTHER))
        await asyncio.wait_for(asked.wait(), 40)
        await story.client.accept(story.started.workflow_id, accepted_by=CUSTOMER)
        async with asyncio.timeout(40):
            while "is being recorded: active" not in (await story.status()).next_step:
                await asyncio.sleep(0.02)
        decided.set()
        with pytest.raises(Rejected, match="Too late: the request is active already"):
            await replacing
        assert (await story.handle.result())["status"] == "active"
    assert [row["email"] for row in await ask("SELECT email FROM account_users")] == [CUSTOMER]
    assert mail_server.kinds(CUSTOMER) == ["activation", "welcome"]
    assert not mail_server.kinds(OTHER)


async def test_bounce_overtakes_the_outcome_of_the_sending(story: Any, mail_server: Any) -> None:
    mail_server.slow = {CUSTOMER}
    received = Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER)
    async with story.worker():
        await story.start()
        await mail_server.wait_for("request-received")
        await story.client.report_bounce(
            story.started.workflow_id,
            run_id=story.started.request_id,
            bounce=Bounce(email=received, answer="550 gone"),
        )
        mail_server.slow = set()
        now = await story.until(Status.PENDING, sent=1)
    assert {mail.kind.value: mail.state.value for mail in now.emails} == {
        "activation": "sent",
        "request-received": "bounced",
    }


@pytest.mark.parametrize("memo", [5, {"a": 1}, "x" * 100, "a\x00b"], ids=str)
async def test_foreign_memo_is_no_key(story: Any, example: dict[str, Any], memo: Any) -> None:
    async with story.worker():
        handle = await story.env.client.start_workflow(
            "SmartAccountRequestWorkflow",
            example,
            id="smart-account-acme.example",
            task_queue="smart-account-requests",
            memo={"idempotency_key": memo},
        )
        await handle.signal("accepted")
        async with asyncio.timeout(40):
            assert (await handle.result())["status"] == "active"


async def test_what_came_before_any_worker_counts(
    story: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await story.start()
    withdrawing = asyncio.create_task(
        story.client.withdraw(story.started.workflow_id, Withdrawal(reason="Typed too fast."))
    )
    await asyncio.sleep(0.5)
    async with story.worker():
        assert (await withdrawing).status == Status.WITHDRAWN
        assert (await story.handle.result())["status"] == "withdrawn"
        await story.start()
        await story.client.accept(story.started.workflow_id)
        assert (await story.handle.result())["status"] == "active"
    assert "Dropped" not in caplog.text


async def test_update_with_a_bad_start_wedges_nothing(story: Any) -> None:
    handle = await story.env.client.start_workflow(
        "SmartAccountRequestWorkflow",
        {},
        id="smart-account-acme.example",
        task_queue="smart-account-requests",
    )
    updating = asyncio.create_task(handle.execute_update("withdraw"))
    await asyncio.sleep(0.5)
    async with story.worker(), asyncio.timeout(40):
        with pytest.raises(Exception, match=r"."):
            await handle.result()
        await asyncio.gather(updating, return_exceptions=True)
    assert (await handle.describe()).status == WorkflowExecutionStatus.FAILED
