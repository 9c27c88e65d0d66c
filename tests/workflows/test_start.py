"""The start of a request: whether the domain is free, and what needs attention."""

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.errors import NotFound, Rejected
from tests.support.histories import Keep
from tests.support.mail_server import MailServer
from tests.support.scenario import MINUTE, REQUESTER, Scenario
from tests.support.store import Query


async def test_second_request_while_one_is_pending(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        first = scenario.started
        with pytest.raises(Rejected, match="already under way"):
            await scenario.start()
        assert scenario.started == first
        assert len(mail_server.emails) == 2


async def test_second_request_after_a_lapse(scenario: Scenario, mail_server: MailServer) -> None:
    async with scenario.worker():
        await scenario.start(acceptance_window="PT1H")
        first = scenario.started
        await scenario.env.sleep(61 * MINUTE)
        await scenario.until(Status.LAPSED, sent=4)
        await scenario.until_closed()
        await scenario.start()
        assert scenario.started.request_id != first.request_id
        await scenario.until(Status.PENDING, sent=2)
        await scenario.accept()
        await scenario.handle.result()
        old = await scenario.client.status(first.workflow_id, run_id=first.request_id)
    assert old.status == Status.LAPSED
    ids = [email["Message-ID"] for email in mail_server.emails]
    assert len(set(ids)) == len(ids)


async def test_domain_that_has_an_active_account(
    scenario: Scenario, mail_server: MailServer, query_store: Query, keep: Keep
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.accept()
        await scenario.handle.result()
        before = len(mail_server.emails)
        await scenario.start()
        result = await scenario.handle.result()
        assert result["status"] == "rejected"
        keep("rejected", await scenario.handle.fetch_history())
        assert "already has an active" in result["reason"]
        assert (await scenario.status()).reason == result["reason"]
    [rejection] = mail_server.emails[before:]
    assert (rejection["X-Smart-Account-Mail"], rejection["To"]) == ("rejected", REQUESTER)
    assert await query_store("SELECT state FROM accounts") == [{"state": "active"}]


async def test_next_start_settles_a_terminated_run(scenario: Scenario, query_store: Query) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        terminated = scenario.started
        await scenario.handle.terminate()
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        with pytest.raises(NotFound):
            await scenario.client.accept(terminated.workflow_id, run_id=terminated.request_id)
    assert await query_store("SELECT status, decided_by FROM requests ORDER BY requested_at") == [
        {"status": "withdrawn", "decided_by": "operator"},
        {"status": "pending", "decided_by": None},
    ]
