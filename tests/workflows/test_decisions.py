"""The decision on a request: who makes it, what follows, and that only the first one counts."""

import asyncio

from temporalio.client import WorkflowExecutionStatus

from smart_accounts.contract.messages import Status
from tests.support.histories import Keep
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, DAY, MINUTE, REQUESTER, USER, Scenario, email_states
from tests.support.store import Query


async def test_customer_accepts(
    scenario: Scenario, mail_server: MailServer, query_store: Query
) -> None:
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=2)
        assert email_states(pending) == {
            ("activation", CUSTOMER): "sent",
            ("request-received", REQUESTER): "sent",
        }
        assert pending.deadline == pending.requested_at + 90 * DAY
        await scenario.accept(CUSTOMER)
        result = await scenario.handle.result()
        assert result["status"] == "active"
        active = await scenario.status()
        assert (active.status, active.decided_by) == (Status.ACTIVE, CUSTOMER)
        assert email_states(active) == email_states(pending) | {
            ("activated", REQUESTER): "sent",
            ("welcome", CUSTOMER): "sent",
            ("access-granted", USER): "sent",
        }
    assert await query_store("SELECT state FROM accounts") == [{"state": "active"}]
    assert await query_store("SELECT email, role FROM account_users ORDER BY email") == [
        {"email": CUSTOMER, "role": "approver and administrator"},
        {"email": USER, "role": "user"},
    ]
    assert sorted(mail_server.kinds()) == sorted(kind for kind, _ in email_states(active))


async def test_customer_declines(
    scenario: Scenario, mail_server: MailServer, query_store: Query
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.decline("Not our partner.")
        assert (await scenario.handle.result())["status"] == "declined"
        declined = await scenario.status()
        assert (declined.reason, declined.decided_by) == ("Not our partner.", "customer")
    assert await query_store("SELECT state FROM accounts") == [{"state": "closed"}]
    assert "Not our partner." in str(await mail_server.wait_for("declined", REQUESTER))


async def test_first_decision_counts(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
    await scenario.decline()
    await scenario.accept()
    await scenario.decline("again")
    async with scenario.worker():
        assert (await scenario.handle.result())["status"] == "declined"
        assert (await scenario.status()).reason is None


async def test_cancelling_is_a_withdrawal_by_the_operator(
    scenario: Scenario, mail_server: MailServer, query_store: Query, keep: Keep
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.handle.cancel()
        result = await scenario.handle.result()
        assert result["status"] == "withdrawn"
        keep("cancelled", await scenario.handle.fetch_history())
        withdrawn = await scenario.status()
        assert withdrawn.decided_by == "operator"
        assert (await scenario.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
        await mail_server.wait_for("withdrawn", CUSTOMER)
        assert await query_store("SELECT state FROM accounts") == [{"state": "closed"}]
        await scenario.start()
        await scenario.until(Status.PENDING)


async def test_cancelling_after_a_decision_changes_nothing(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        mail_server.refusals = dict.fromkeys((CUSTOMER, REQUESTER, USER), "451 later")
        await scenario.accept()
        await scenario.until(Status.ACTIVE)
        await scenario.handle.cancel()
        await asyncio.sleep(0.3)
        mail_server.refusals = {}
        assert (await scenario.handle.result())["status"] == "active"
    assert "withdrawn" not in mail_server.kinds()
    assert "welcome" in mail_server.kinds()


async def test_decision_stops_unsent_emails(
    scenario: Scenario, mail_server: MailServer, keep: Keep
) -> None:
    await mail_server.stop()
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING)
        await scenario.env.sleep(60 * MINUTE)
        await scenario.decline()
        await scenario.until(Status.DECLINED)
        async with asyncio.timeout(40):  # much sooner than the next try, in some minutes
            while len(await scenario.pending_activities()) > 1:
                await asyncio.sleep(0.02)
        await mail_server.start()
        await scenario.handle.result()
        keep("declined-after-local-emails-failed", await scenario.handle.fetch_history())
    assert mail_server.kinds() == ["declined"]
