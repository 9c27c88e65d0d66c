"""What the first workflow task finds: a memo, earlier messages, or a bad start input."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.errors import NotFound
from tests.support.mail_server import MailServer
from tests.support.scenario import Scenario


@pytest.fixture
def env(dev_server_env: WorkflowEnvironment) -> WorkflowEnvironment:
    return dev_server_env


async def test_decision_before_any_worker_counts(
    scenario: Scenario, caplog: pytest.LogCaptureFixture
) -> None:
    await scenario.start()
    withdrawing = asyncio.create_task(scenario.withdraw("Typed too fast."))
    await asyncio.sleep(0.5)
    async with scenario.worker():
        assert (await withdrawing).status == Status.WITHDRAWN
        assert (await scenario.handle.result())["status"] == "withdrawn"
        await scenario.start()
        await scenario.accept()
        assert (await scenario.handle.result())["status"] == "active"
    assert "Dropped" not in caplog.text


@pytest.mark.parametrize("memo", [5, {"a": 1}, "x" * 100, "a\x00b"], ids=str)
async def test_memo_that_is_not_a_key_is_ignored(
    scenario: Scenario, example: dict[str, Any], memo: Any
) -> None:
    async with scenario.worker():
        handle = await scenario.env.client.start_workflow(
            "SmartAccountRequestWorkflow",
            example,
            id="smart-account-acme.example",
            task_queue="smart-account-requests",
            memo={"idempotency_key": memo},
        )
        await handle.signal("accepted")
        async with asyncio.timeout(40):
            assert (await handle.result())["status"] == "active"


PAT = Identity("https://login.example", "pat")


async def test_memo_names_the_owner_before_and_after_the_first_task(
    scenario: Scenario, example: dict[str, Any]
) -> None:
    request = SmartAccountRequest.model_validate(example)
    scenario.started = await scenario.client.start(request, owner=PAT)
    running = await scenario.client.find_running(scenario.started.workflow_id)
    assert running.owner == PAT
    same = await scenario.client.find_running(scenario.started.workflow_id, owner=PAT)
    assert same.request_id == running.request_id
    with pytest.raises(NotFound):
        await scenario.client.find_running(
            scenario.started.workflow_id, owner=Identity("https://login.example", "kim")
        )
    async with scenario.worker():
        await scenario.until(Status.PENDING)
    stored = await scenario.stored()
    assert (stored.requester_issuer, stored.requester_subject) == (PAT.issuer, PAT.subject)
    assert not stored.company_is_stated


@pytest.mark.parametrize(
    "memo",
    [
        {"requester_subject": "pat"},
        {"requester_issuer": "i", "requester_subject": "x" * 256},
        {"requester_issuer": "i", "requester_subject": ""},
        {"requester_issuer": "i\x00", "requester_subject": "pat"},
        {"requester_issuer": ["i"], "requester_subject": {"a": 5}},
        {"requester_issuer": b"i", "requester_subject": b"pat"},
    ],
    ids=lambda memo: repr(memo)[:60],
)
async def test_memo_that_names_no_person_is_ignored(
    scenario: Scenario, example: dict[str, Any], memo: dict[str, Any]
) -> None:
    await scenario.env.client.start_workflow(
        "SmartAccountRequestWorkflow",
        example,
        id="smart-account-acme.example",
        task_queue="smart-account-requests",
        memo=memo,
    )
    scenario.started = await scenario.client.find_running("smart-account-acme.example")
    assert scenario.started.owner is None
    async with scenario.worker():
        await scenario.until(Status.PENDING)
    stored = await scenario.stored()
    assert (stored.requester_issuer, stored.requester_subject) == (None, None)
    assert stored.company_is_stated


async def test_bad_start_fails_although_an_update_waits(scenario: Scenario) -> None:
    handle = await scenario.env.client.start_workflow(
        "SmartAccountRequestWorkflow",
        {},
        id="smart-account-acme.example",
        task_queue="smart-account-requests",
    )
    updating = asyncio.create_task(handle.execute_update("withdraw"))
    await asyncio.sleep(0.5)
    async with scenario.worker(), asyncio.timeout(40):
        with pytest.raises(Exception, match=r"."):
            await handle.result()
        await asyncio.gather(updating, return_exceptions=True)
    assert (await handle.describe()).status == WorkflowExecutionStatus.FAILED


async def test_withdrawal_before_the_checks_tells_the_customer_nothing(
    scenario: Scenario, mail_server: MailServer, checks_may_end: asyncio.Event
) -> None:
    async with scenario.worker():
        await scenario.start()
        assert "The customer was not asked" in (await scenario.withdraw()).message
        checks_may_end.set()
        assert (await scenario.handle.result())["status"] == "withdrawn"
    assert mail_server.emails == []
