"""What the first workflow task finds: a memo, earlier messages, or a bad start input."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.messages import Status
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
