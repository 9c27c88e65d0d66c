"""Answers that reach a run before it has counted their link.

A worker may be killed after it has sent a link, and before the history has it. The next worker
replays the history, and Temporal's SDK handles the customer's signal before the result of the step
that issued the link. After a reset, every answer comes that early.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.actions import ActionResult, Review, ReviewDecision
from smart_accounts.contract.messages import EmailKind, SmartAccountRequest, Status
from smart_accounts.contract.names import TASK_QUEUE, WORKFLOW_TYPE, workflow_id
from smart_accounts.contract.steps import Addressee, Email, IssueLink
from smart_accounts.errors import Rejected
from smart_accounts.store.requests import Requests
from tests.support.histories import Keep
from tests.support.limits import new_limits
from tests.support.scenario import OTHER, Scenario
from tests.support.store import Query

ELSEWHERE = "ada@consultants.example"
APPROVE = Review(decision=ReviewDecision.APPROVE, by="opal")


@pytest.fixture
def env(dev_server_env: WorkflowEnvironment) -> WorkflowEnvironment:
    return dev_server_env


async def accept(scenario: Scenario, link: int) -> None:
    await scenario.client.accept(scenario.started.workflow_id, link=link)


async def approve(scenario: Scenario) -> ActionResult:
    return await scenario.client.review(scenario.started.workflow_id, APPROVE)


class Late:
    """A step of the store that waits until it may run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._step = getattr(Requests, name)
        self.begun, self.may_run = asyncio.Event(), asyncio.Event()
        late = self

        async def run_late(requests: Requests, *given: Any) -> Any:
            late.begun.set()
            await late.may_run.wait()
            return await late._step(requests, *given)

        monkeypatch.setattr(Requests, name, run_late)


@asynccontextmanager
async def replacing_approver(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Late, asyncio.Task[ActionResult]]]:
    """Run a worker that has begun to issue the second link, for another approver."""
    issue_link = Late(monkeypatch, "issue_link")
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        replacing = asyncio.create_task(scenario.replace_approver(OTHER))
        await issue_link.begun.wait()
        yield issue_link, replacing


async def test_answer_before_the_first_link_counts(scenario: Scenario, keep: Keep) -> None:
    await scenario.start()
    await accept(scenario, 1)
    async with scenario.worker():
        assert (await scenario.handle.result())["status"] == "active"
    keep("accepted-before-the-link", await scenario.handle.fetch_history())


async def test_answer_before_a_new_link_counts(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, query_store: Query
) -> None:
    async with replacing_approver(scenario, monkeypatch) as (issue_link, replacing):
        await accept(scenario, 2)
        await accept(scenario, 3)  # nobody has this link yet
        assert (await scenario.status()).status is Status.PENDING
        issue_link.may_run.set()
        await replacing
        assert (await scenario.handle.result())["status"] == "active"
    [approver] = await query_store("SELECT email FROM account_users WHERE role <> 'user'")
    assert approver["email"] == OTHER


async def test_answer_before_the_end_of_the_approval_counts(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    approving = Late(monkeypatch, "approve")
    async with scenario.worker():
        await scenario.start(customer_email=ELSEWHERE)
        await scenario.until(Status.IN_REVIEW, sent=1)
        approval = asyncio.create_task(approve(scenario))
        await approving.begun.wait()
        await accept(scenario, 1)
        approving.may_run.set()
        await approval
        assert (await scenario.handle.result())["status"] == "active"


@pytest.mark.parametrize("when", ["before the checks", "in review"])
async def test_answer_before_a_review_does_not_count(scenario: Scenario, when: str) -> None:
    await scenario.start(customer_email=ELSEWHERE)
    if when == "before the checks":
        await accept(scenario, 1)
    async with scenario.worker():
        await scenario.until(Status.IN_REVIEW, sent=1)
        if when == "in review":
            await accept(scenario, 1)
        await approve(scenario)
        await scenario.until(Status.PENDING, sent=3)
        await scenario.withdraw()
        assert (await scenario.handle.result())["status"] == "withdrawn"


@pytest.mark.parametrize("how", ["withdrawn", "cancelled"])
async def test_early_answer_wins_over_a_later_withdrawal(scenario: Scenario, how: str) -> None:
    await scenario.start()
    await accept(scenario, 1)
    if how == "cancelled":
        await scenario.handle.cancel()
    async with scenario.worker():
        if how == "withdrawn":
            with pytest.raises(Rejected, match="already active"):
                await scenario.withdraw()
        assert (await scenario.handle.result())["status"] == "active"


async def test_early_answer_through_a_new_link_wins_over_a_later_withdrawal(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replacing_approver(scenario, monkeypatch) as (issue_link, replacing):
        await accept(scenario, 2)
        withdrawing = asyncio.create_task(scenario.withdraw())
        while await scenario.accepted_updates() < 2:
            await asyncio.sleep(0.02)
        issue_link.may_run.set()
        await replacing
        with pytest.raises(Rejected, match="already active"):
            await withdrawing
        assert (await scenario.handle.result())["status"] == "active"


async def test_old_address_bounces_while_its_approver_is_replaced(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replacing_approver(scenario, monkeypatch) as (issue_link, replacing):
        activation = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
        await scenario.report_bounce(activation, "550 5.1.1 no such user")
        assert (await scenario.status()).status is Status.PENDING
        issue_link.may_run.set()
        await replacing
        await accept(scenario, 2)
        assert (await scenario.handle.result())["status"] == "active"


async def test_run_that_was_reset_learns_of_newer_links(
    scenario: Scenario, query_store: Query
) -> None:
    async with scenario.worker():
        await scenario.start(user_emails=[])
        await scenario.until(Status.PENDING, sent=2)
        record = await scenario.handle.query("record")
        request = SmartAccountRequest.model_validate(record["request"] | {"customer_email": OTHER})
        for ordinal in (2, 3):
            link = IssueLink(
                request_id=scenario.started.request_id,
                request=request,
                ordinal=ordinal,
                at=await scenario.now(),
            )
            await scenario.store.requests.issue_link(link, (), new_limits())
        with pytest.raises(Rejected, match="The request was reset"):
            await scenario.replace_approver("zoe@acme.example")
        await accept(scenario, 3)
        assert (await scenario.handle.result())["status"] == "active"
    [user] = await query_store("SELECT email FROM account_users")
    assert user["email"] == OTHER


async def test_early_answer_to_an_invalid_request_does_not_hold_it(
    scenario: Scenario, example: dict[str, Any]
) -> None:
    two_of_one_mailbox = {"user_emails": ["bo@acme.example", "bo+1@acme.example"]}
    handle = await scenario.env.client.start_workflow(
        WORKFLOW_TYPE,
        example | two_of_one_mailbox,
        id=workflow_id("acme.example"),
        task_queue=TASK_QUEUE,
    )
    await handle.signal("accepted", {"link": 1})
    await handle.cancel()
    async with scenario.worker():
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "InvalidRequest"
