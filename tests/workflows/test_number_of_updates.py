"""Temporal limits the updates of a run. Nobody can use up those that end a request."""

import asyncio
from typing import Any

import pytest

from smart_accounts.contract.actions import Review, ReviewDecision
from smart_accounts.contract.messages import Status
from smart_accounts.errors import Rejected
from smart_accounts.store.requests import Requests
from tests.support.scenario import CUSTOMER, MINUTE, OTHER, Scenario
from workflows import smart_account_request

ELSEWHERE = "ada@consultants.example"
NO_MORE = "too many changes and gets no more activation emails"


async def test_new_approvers_who_would_need_a_review(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smart_account_request, "MAX_REFUSALS", 2)
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.env.sleep(6 * MINUTE)
        for _ in range(2):
            with pytest.raises(Rejected, match="Withdraw the request and make a new one"):
                await scenario.replace_approver(ELSEWHERE)
        for change in (
            scenario.replace_approver(ELSEWHERE),
            scenario.replace_approver(OTHER),
            scenario.resend(),
        ):
            with pytest.raises(Rejected, match=NO_MORE):
                await change
        assert await scenario.accepted_updates() == 2
        assert (await scenario.replace_approver(CUSTOMER)).is_repeat
        assert (await scenario.withdraw_as_operator("Fraud.")).status is Status.WITHDRAWN


async def test_links_that_several_clients_ask_for_at_once(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_accepted, issue_link = asyncio.Event(), Requests.issue_link

    async def issue_link_late(requests: Requests, *given: Any) -> Any:
        await both_accepted.wait()
        return await issue_link(requests, *given)

    monkeypatch.setattr(Requests, "issue_link", issue_link_late)
    monkeypatch.setattr(smart_account_request, "MAX_REFUSALS", 1)
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.env.sleep(6 * MINUTE)
        resends = [asyncio.create_task(scenario.resend()) for _ in range(2)]
        async with asyncio.timeout(40):
            while await scenario.accepted_updates() < 2:
                await asyncio.sleep(0.01)
        both_accepted.set()
        results = await asyncio.gather(*resends, return_exceptions=True)
        assert sorted(isinstance(result, Rejected) for result in results) == [False, True]
        with pytest.raises(Rejected, match=NO_MORE):
            await scenario.resend()


async def test_links(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart_account_request, "MAX_LINKS", 2)
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.replace_approver(OTHER)
        for change in (scenario.replace_approver(CUSTOMER), scenario.resend()):
            with pytest.raises(Rejected, match=NO_MORE):
                await change
        assert (await scenario.replace_approver(OTHER)).is_repeat
        assert (await scenario.withdraw()).status is Status.WITHDRAWN


async def test_reviews(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart_account_request, "MAX_REPEATS", 2)
    approval = Review(decision=ReviewDecision.APPROVE)
    async with scenario.worker():
        await scenario.start(customer_email=ELSEWHERE)
        await scenario.until(Status.IN_REVIEW)
        for _ in range(3):
            await scenario.client.review(scenario.started.workflow_id, approval)
        with pytest.raises(Rejected, match="already reviewed"):
            await scenario.client.review(scenario.started.workflow_id, approval)
        assert await scenario.accepted_updates() == 3
        assert (await scenario.withdraw()).status is Status.WITHDRAWN
