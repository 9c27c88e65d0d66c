"""What people see over 90 days: real workflow, activities, mail and store; only time is quick."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus

from smart_accounts.contract.messages import RequestStatus, Status
from smart_accounts.errors import NotFound, Rejected, Unavailable

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
WITHOUT_REMINDERS = "P6D"
CUSTOMER, REQUESTER, USER = "ada@acme.example", "pat@partner.example", "bo@acme.example"


def mails(status: RequestStatus) -> dict[tuple[str, str], str]:
    return {(mail.kind.value, mail.recipient): mail.state.value for mail in status.emails}


async def test_customer_accepts(story: Any, mail_server: Any, ask: Any) -> None:
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=2)
        assert mails(pending) == {
            ("activation", CUSTOMER): "sent",
            ("request-received", REQUESTER): "sent",
        }
        assert pending.deadline == pending.requested_at + 90 * DAY
        await story.client.accept(story.started.workflow_id, accepted_by=CUSTOMER)
        result = await story.handle.result()
        assert result["status"] == "active"
        active = await story.status()
        assert (active.status, active.decided_by) == (Status.ACTIVE, CUSTOMER)
        assert mails(active) == mails(pending) | {
            ("activated", REQUESTER): "sent",
            ("welcome", CUSTOMER): "sent",
            ("access-granted", USER): "sent",
        }
    assert await ask("SELECT state FROM accounts") == [{"state": "active"}]
    assert await ask("SELECT email, role FROM account_users ORDER BY email") == [
        {"email": CUSTOMER, "role": "approver and administrator"},
        {"email": USER, "role": "user"},
    ]
    assert sorted(mail_server.kinds()) == sorted(kind for kind, _ in mails(active))


async def test_customer_declines(story: Any, mail_server: Any, ask: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await story.client.decline(story.started.workflow_id, reason="Not our partner.")
        assert (await story.handle.result())["status"] == "declined"
        declined = await story.status()
        assert (declined.reason, declined.decided_by) == ("Not our partner.", "customer")
    assert await ask("SELECT state FROM accounts") == [{"state": "closed"}]
    assert "Not our partner." in str(await mail_server.wait_for("declined", REQUESTER))


async def test_nobody_answers(story: Any, mail_server: Any, ask: Any) -> None:
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=2)
        await story.sleep_until(pending.deadline - MINUTE)
        assert (await story.status()).status == Status.PENDING
        assert await story.stored() == Status.PENDING
        assert (await story.handle.describe()).status == WorkflowExecutionStatus.RUNNING
        await story.sleep_until(pending.deadline + timedelta(seconds=1))
        lapsed = await story.until(Status.LAPSED, sent=9)
        assert timedelta() <= lapsed.decided_at - lapsed.deadline < timedelta(seconds=10)
    assert await ask("SELECT state FROM accounts") == [{"state": "closed"}]
    assert mail_server.kinds(CUSTOMER) == ["activation", *["reminder"] * 4, "lapsed"]
    assert mail_server.kinds(REQUESTER) == ["request-received", "expiring", "lapsed"]


async def test_customer_accepts_in_the_last_minute(story: Any) -> None:
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=2)
        await story.sleep_until(pending.deadline - MINUTE)
        await story.client.accept(story.started.workflow_id)
        active = await story.until(Status.ACTIVE)
        assert active.decided_at < active.deadline


async def test_acceptance_and_expiry_that_both_wait_for_a_worker(story: Any) -> None:
    async with story.worker():
        await story.start(acceptance_window=WITHOUT_REMINDERS)
        pending = await story.until(Status.PENDING, sent=2)
    await story.let_pass(pending.deadline)
    await story.client.accept(story.started.workflow_id)
    async with story.worker():
        assert (await story.handle.result())["status"] == "active"


async def test_acceptance_before_any_worker_saw_a_request_that_is_past_its_deadline(
    story: Any,
) -> None:
    await story.start(acceptance_window="PT1S")
    await story.client.accept(story.started.workflow_id)
    await asyncio.sleep(1.5)
    async with story.worker():
        assert (await story.handle.result())["status"] == "active"


async def test_expiry_while_no_worker_runs(story: Any) -> None:
    async with story.worker():
        await story.start(acceptance_window=WITHOUT_REMINDERS)
        pending = await story.until(Status.PENDING, sent=2)
    await story.let_pass(pending.deadline)
    async with story.worker():
        assert (await story.handle.result())["status"] == "lapsed"


async def test_mail_server_down_at_the_deadline(story: Any, mail_server: Any) -> None:
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=2)
        await story.sleep_until(pending.deadline - MINUTE)
        await story.until(Status.PENDING, sent=7)
        await mail_server.down()
        await story.sleep_until(pending.deadline + timedelta(seconds=1))
        lapsed = await story.until(Status.LAPSED)
        assert lapsed.decided_at - lapsed.deadline < timedelta(seconds=10)
        assert await story.stored() == Status.LAPSED
        assert mails(lapsed)["lapsed", CUSTOMER] == "queued"
        await mail_server.up()
        await story.handle.result()
    assert mail_server.kinds(CUSTOMER) == ["activation", *["reminder"] * 4, "lapsed"]


async def test_mail_server_down_for_half_a_day(story: Any, mail_server: Any) -> None:
    await mail_server.down()
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING)
        await story.env.sleep(DAY / 2)
        waiting = await story.status()
        assert waiting.status == Status.PENDING
        assert set(mails(waiting).values()) == {"queued"}
        await mail_server.up()
        await story.env.sleep(11 * MINUTE)
        await story.until(Status.PENDING, sent=2)
    assert sorted(mail_server.kinds()) == ["activation", "request-received"]


async def test_refusal_for_now_of_one_email_holds_back_nothing(
    story: Any, mail_server: Any
) -> None:
    mail_server.refusals[REQUESTER] = "451 try again later"
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=1)
        assert mails(pending) == {
            ("activation", CUSTOMER): "sent",
            ("request-received", REQUESTER): "queued",
        }
        async with asyncio.timeout(40):
            await story.client.accept(story.started.workflow_id)
            await story.until(Status.ACTIVE)
        await mail_server.wait_for("welcome", CUSTOMER)
        await mail_server.wait_for("access-granted", USER)
        del mail_server.refusals[REQUESTER]
        await story.handle.result()
        final = mails(await story.status())
    assert ("request-received", REQUESTER) not in final
    assert mail_server.kinds(REQUESTER) == ["activated"]


async def test_second_request_while_one_is_pending(story: Any, mail_server: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        first = story.started
        with pytest.raises(Rejected, match="already under way"):
            await story.start()
        assert story.started == first
        assert len(mail_server.mails) == 2


async def test_second_request_after_a_lapse(story: Any, mail_server: Any) -> None:
    async with story.worker():
        await story.start(acceptance_window="PT1H")
        first = story.started
        await story.env.sleep(61 * MINUTE)
        await story.until(Status.LAPSED, sent=4)
        await story.until_closed()
        await story.start()
        assert story.started.request_id != first.request_id
        await story.until(Status.PENDING, sent=2)
        await story.client.accept(story.started.workflow_id)
        await story.handle.result()
        old = await story.client.status(first.workflow_id, run_id=first.request_id)
    assert old.status == Status.LAPSED
    ids = [mail["Message-ID"] for mail in mail_server.mails]
    assert len(set(ids)) == len(ids)


async def test_domain_that_already_has_an_account(
    story: Any, mail_server: Any, ask: Any, keep: Any
) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await story.client.accept(story.started.workflow_id)
        await story.handle.result()
        before = len(mail_server.mails)
        await story.start()
        result = await story.handle.result()
        assert result["status"] == "rejected"
        keep("rejected", await story.handle.fetch_history())
        assert "already has an active" in result["reason"]
        assert (await story.status()).reason == result["reason"]
    [told] = mail_server.mails[before:]
    assert (told["X-Smart-Account-Mail"], told["To"]) == ("rejected", REQUESTER)
    assert await ask("SELECT state FROM accounts") == [{"state": "active"}]


async def test_cancelling_is_a_withdrawal_by_the_operator(
    story: Any, mail_server: Any, ask: Any, keep: Any
) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await story.handle.cancel()
        result = await story.handle.result()
        assert result["status"] == "withdrawn"
        keep("cancelled", await story.handle.fetch_history())
        withdrawn = await story.status()
        assert withdrawn.decided_by == "operator"
        assert (await story.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
        await mail_server.wait_for("withdrawn", CUSTOMER)
        assert await ask("SELECT state FROM accounts") == [{"state": "closed"}]
        await story.start()
        await story.until(Status.PENDING)


async def test_cancelling_after_the_decision_changes_nothing(story: Any, mail_server: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        mail_server.refusals = dict.fromkeys((CUSTOMER, REQUESTER, USER), "451 later")
        await story.client.accept(story.started.workflow_id)
        await story.until(Status.ACTIVE)
        await story.handle.cancel()
        await asyncio.sleep(0.3)
        mail_server.refusals = {}
        assert (await story.handle.result())["status"] == "active"
    assert "withdrawn" not in mail_server.kinds()
    assert "welcome" in mail_server.kinds()


async def test_terminated_run_is_settled_by_the_next_start(story: Any, ask: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        terminated = story.started
        await story.handle.terminate()
        await story.start()
        await story.until(Status.PENDING, sent=2)
        with pytest.raises(NotFound):
            await story.client.accept(terminated.workflow_id, run_id=terminated.request_id)
    assert await ask("SELECT status, decided_by FROM requests ORDER BY requested_at") == [
        {"status": "withdrawn", "decided_by": "operator"},
        {"status": "pending", "decided_by": None},
    ]


async def test_first_decision_wins(story: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
    await story.client.decline(story.started.workflow_id)
    await story.client.accept(story.started.workflow_id)
    await story.client.decline(story.started.workflow_id, reason="again")
    async with story.worker():
        assert (await story.handle.result())["status"] == "declined"
        assert (await story.status()).reason is None


async def test_decision_before_the_emails_stops_them(
    story: Any, mail_server: Any, keep: Any
) -> None:
    await mail_server.down()
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING)
        await story.env.sleep(60 * MINUTE)
        await story.client.decline(story.started.workflow_id)
        await story.until(Status.DECLINED)
        async with asyncio.timeout(40):  # not the minutes that the next try is away
            while len(await story.pending_activities()) > 1:
                await asyncio.sleep(0.02)
        await mail_server.up()
        await story.handle.result()
        keep("declined-during-a-mail-outage", await story.handle.fetch_history())
    assert mail_server.kinds() == ["declined"]


async def test_odd_customer_domain_is_marked(story: Any) -> None:
    async with story.worker():
        await story.start(customer_email="ada@other.example")
        pending = await story.until(Status.PENDING)
    assert pending.needs_attention == ("The customer's address is not of the account's domain.",)


async def test_outage_of_the_database_ends_no_run(
    story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise Unavailable("The database does not answer.")

    async def events() -> int:
        return len((await story.handle.fetch_history()).events)

    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        with monkeypatch.context() as outage:
            outage.setattr(story.store, "activate", away)
            await story.client.accept(story.started.workflow_id)
            await story.env.sleep(11 * MINUTE)  # its pauses are at their longest
            before = await events()
            await story.env.sleep(20 * MINUTE)
            an_hour = 3 * (await events() - before)
        await story.env.sleep(5 * MINUTE)  # the next try
        assert (await story.handle.result())["status"] == "active"
    assert 50 <= an_hour <= 95, "Temporal ends a run at 51,200 events"
