"""The deadline: a request lapses at this moment and never before, also after an outage."""

import asyncio
from datetime import timedelta

from temporalio.client import WorkflowExecutionStatus

from smart_accounts.contract.messages import Status
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, MINUTE, REQUESTER, Scenario, email_states
from tests.support.store import Query

SHORTER_THAN_A_REMINDER = "P6D"


async def test_request_without_an_answer_lapses(
    scenario: Scenario, mail_server: MailServer, query_store: Query
) -> None:
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=2)
        await scenario.sleep_until(pending.deadline - MINUTE)
        assert (await scenario.status()).status == Status.PENDING
        assert (await scenario.stored()).status == Status.PENDING
        assert (await scenario.handle.describe()).status == WorkflowExecutionStatus.RUNNING
        await scenario.sleep_until(pending.deadline + timedelta(seconds=1))
        lapsed = await scenario.until(Status.LAPSED, sent=9)
        assert lapsed.decided_at
        assert timedelta() <= lapsed.decided_at - lapsed.deadline < timedelta(seconds=10)
    assert await query_store("SELECT state FROM accounts") == [{"state": "closed"}]
    assert mail_server.kinds(CUSTOMER) == ["activation", *["reminder"] * 4, "lapsed"]
    assert mail_server.kinds(REQUESTER) == ["request-received", "expiring", "lapsed"]


async def test_customer_accepts_in_the_last_minute(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=2)
        await scenario.sleep_until(pending.deadline - MINUTE)
        await scenario.accept()
        active = await scenario.until(Status.ACTIVE)
        assert active.decided_at
        assert active.decided_at < active.deadline


async def test_acceptance_wins_if_both_wait_for_a_worker(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start(acceptance_window=SHORTER_THAN_A_REMINDER)
        pending = await scenario.until(Status.PENDING, sent=2)
    await scenario.pass_without_worker(pending.deadline)
    await scenario.accept()
    async with scenario.worker():
        assert (await scenario.handle.result())["status"] == "active"


async def test_acceptance_wins_if_the_first_worker_starts_after_the_deadline(
    scenario: Scenario,
) -> None:
    await scenario.start(acceptance_window="PT1S")
    await scenario.accept()
    await asyncio.sleep(1.5)
    async with scenario.worker():
        assert (await scenario.handle.result())["status"] == "active"


async def test_deadline_while_no_worker_runs(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start(acceptance_window=SHORTER_THAN_A_REMINDER)
        pending = await scenario.until(Status.PENDING, sent=2)
    await scenario.pass_without_worker(pending.deadline)
    async with scenario.worker():
        assert (await scenario.handle.result())["status"] == "lapsed"


async def test_deadline_while_the_mail_server_is_down(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=2)
        await scenario.sleep_until(pending.deadline - MINUTE)
        await scenario.until(Status.PENDING, sent=7)
        await mail_server.stop()
        await scenario.sleep_until(pending.deadline + timedelta(seconds=1))
        lapsed = await scenario.until(Status.LAPSED)
        assert lapsed.decided_at
        assert lapsed.decided_at - lapsed.deadline < timedelta(seconds=10)
        assert (await scenario.stored()).status == Status.LAPSED
        assert email_states(lapsed)["lapsed", CUSTOMER] == "queued"
        await mail_server.start()
        await scenario.handle.result()
    assert mail_server.kinds(CUSTOMER) == ["activation", *["reminder"] * 4, "lapsed"]
