"""Requests that an operator must review before the customer is asked."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowUpdateFailedError

from smart_accounts.contract.actions import Actor, Review, ReviewDecision, Role, Withdrawal
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Approve
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.settings import Settings
from smart_accounts.store.requests import Requests
from tests.support.histories import Keep
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, DAY, MINUTE, OTHER, REQUESTER, Scenario, text_of
from tests.support.store import Query

ELSEWHERE = "ada@consultants.example"
NOT_THERE = "The customer's address is not at the account's domain."
OPERATORS = "operators@service.example"
APPROVE = Review(decision=ReviewDecision.APPROVE, by="opal")
REJECT = Review(decision=ReviewDecision.REJECT, reason="We know no such partner.", by="opal")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"review_email": OPERATORS})


async def start_odd(scenario: Scenario, **changes: str) -> None:
    """Start a request whose customer has an address at another domain."""
    await scenario.start(customer_email=ELSEWHERE, **changes)
    await scenario.until(Status.IN_REVIEW, sent=1)
    await scenario.until_all_sent()


async def review(scenario: Scenario, given: Review) -> str:
    result = await scenario.client.review(scenario.started.workflow_id, given)
    return result.message


async def test_approved_request_asks_the_customer(
    scenario: Scenario, mail_server: MailServer, keep: Keep
) -> None:
    async with scenario.worker():
        await start_odd(scenario)
        in_review = await scenario.status_as_stored()
        assert in_review.needs_attention == (NOT_THERE,)
        received = await mail_server.wait_for("request-received", REQUESTER)
        assert "an operator reviews it" in text_of(received)
        assert not mail_server.kinds(ELSEWHERE)
        await scenario.env.sleep(2 * DAY)
        assert await review(scenario, APPROVE) == (
            "The request is approved. The customer gets the activation email."
        )
        pending = await scenario.until(Status.PENDING, sent=3)
        assert pending.deadline == in_review.deadline
        assert await review(scenario, APPROVE), "the same decision again succeeds"
        with pytest.raises(Rejected, match="already approved"):
            await review(scenario, REJECT)
        assert mail_server.kinds(ELSEWHERE) == ["activation"]
        assert mail_server.kinds(REQUESTER) == ["request-received"] * 2
        await scenario.accept()
        await scenario.handle.result()
        keep("approved-with-local-emails", await scenario.handle.fetch_history())


async def test_rejected_request_never_reaches_the_customer(
    scenario: Scenario, mail_server: MailServer, query_store: Query, keep: Keep
) -> None:
    async with scenario.worker():
        await start_odd(scenario)
        await review(scenario, REJECT)
        result = await scenario.handle.result()
        assert (result["status"], result["reason"]) == ("rejected", REJECT.reason)
        keep("rejected-after-review", await scenario.handle.fetch_history())
        rejected = await scenario.status_as_stored()
        assert rejected.decided_by == "operator"
        email = await mail_server.wait_for("rejected", REQUESTER)
        assert "An operator reviewed your request and rejected it" in text_of(email)
        assert not mail_server.kinds(ELSEWHERE)
        assert await query_store("SELECT state FROM accounts") == [{"state": "closed"}]
        await scenario.start()  # the domain is free
        await scenario.until(Status.PENDING, sent=2)


async def test_request_lapses_after_fourteen_days_without_review(
    scenario: Scenario, mail_server: MailServer, keep: Keep
) -> None:
    async with scenario.worker():
        await start_odd(scenario)
        await scenario.env.sleep(14 * DAY - MINUTE)
        assert (await scenario.status()).status == Status.IN_REVIEW
        await scenario.env.sleep(2 * MINUTE)
        await scenario.until(Status.LAPSED)
        await scenario.handle.result()
        keep("lapsed-in-review", await scenario.handle.fetch_history())
        assert mail_server.kinds(REQUESTER) == ["request-received", "lapsed"]
        assert "No operator reviewed" in text_of(await mail_server.wait_for("lapsed", REQUESTER))
        assert not mail_server.kinds(ELSEWHERE)


async def test_answers_and_changes_during_the_review_do_not_count(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await start_odd(scenario)
        await scenario.accept()
        await scenario.decline()
        for action in (scenario.resend(), scenario.replace_approver(CUSTOMER)):
            with pytest.raises(Rejected, match="withdraw it and make a new one"):
                await action
        assert (await scenario.status()).status == Status.IN_REVIEW
        operator = Withdrawal(by=Actor(role=Role.OPERATOR, subject="opal"))
        result = await scenario.client.withdraw(scenario.started.workflow_id, operator)
        assert result.message == "The request is withdrawn. The customer was not asked."
        await scenario.handle.result()
        assert (await scenario.status_as_stored()).decided_by == "operator"
        assert not mail_server.kinds(ELSEWHERE)
        with pytest.raises(NotFound):
            await review(scenario, APPROVE)


async def test_acceptance_before_the_checks_of_an_odd_request_does_not_count(
    scenario: Scenario,
) -> None:
    await scenario.start(customer_email=ELSEWHERE)
    await scenario.accept()
    async with scenario.worker():
        assert (await scenario.until(Status.IN_REVIEW, sent=1)).decided_at is None


async def test_review_that_is_null_is_rejected(scenario: Scenario) -> None:
    async with scenario.worker():
        await start_odd(scenario)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await scenario.handle.execute_update("review", None)
        assert "must be an object" in str(caught.value.cause)
        assert (await scenario.withdraw()).status is Status.WITHDRAWN


async def test_withdrawal_during_the_approval(
    scenario: Scenario, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, withdrawn = asyncio.Event(), asyncio.Event()
    approve = Requests.approve

    async def approve_late(requests: Requests, approval: Approve) -> None:
        begun.set()
        await withdrawn.wait()
        await approve(requests, approval)

    monkeypatch.setattr(Requests, "approve", approve_late)
    async with scenario.worker():
        await start_odd(scenario)
        approving = asyncio.create_task(review(scenario, APPROVE))
        await begun.wait()
        history = await scenario.handle.fetch_history()
        assert any(
            event.HasField("workflow_execution_update_accepted_event_attributes")
            for event in history.events
        ), "Temporal has the review before the store does"
        await scenario.withdraw()
        withdrawn.set()
        with pytest.raises(Rejected, match="already withdrawn"):
            await approving
        await scenario.handle.result()
    assert mail_server.kinds(ELSEWHERE) == []


async def test_reported_requester_asks_no_new_approver(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        first = scenario.started
        await scenario.until(Status.PENDING, sent=2)
        await scenario.start(account_domain="other.example", customer_email="bo@other.example")
        await scenario.until(Status.PENDING, sent=2)
        await scenario.client.decline(scenario.started.workflow_id, report=True)
        await scenario.until_closed()
        scenario.started = first
        with pytest.raises(Rejected, match="A customer reported"):
            await scenario.replace_approver(OTHER)


async def test_review_before_the_checks_is_told_to_try_again(
    scenario: Scenario, checks_may_end: asyncio.Event
) -> None:
    async with scenario.worker():
        await scenario.start(customer_email=ELSEWHERE)
        with pytest.raises(Rejected, match="still being checked"):
            await review(scenario, APPROVE)
        checks_may_end.set()
        await scenario.until(Status.IN_REVIEW, sent=1)


async def test_emails_that_were_due_before_the_approval_are_skipped(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start(
            customer_email=ELSEWHERE, acceptance_window="P12D", reminders=["P1D", "P7D"]
        )
        await scenario.until(Status.IN_REVIEW, sent=1)
        await scenario.env.sleep(6 * DAY)  # the requester's "expiring" was due after five
        await review(scenario, APPROVE)
        await scenario.until(Status.PENDING, sent=3)
        await scenario.env.sleep(1.5 * DAY)
        await scenario.until(Status.PENDING, sent=4)
        assert mail_server.kinds(ELSEWHERE) == ["activation", "reminder"]
        assert mail_server.kinds(REQUESTER) == ["request-received", "request-received"]
        await scenario.accept()
        await scenario.handle.result()


async def test_approver_who_would_need_a_review_is_rejected(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        with pytest.raises(Rejected, match="Withdraw the request and make a new one"):
            await scenario.replace_approver(ELSEWHERE)
        with pytest.raises(Rejected, match="must differ from the requester's"):
            await scenario.replace_approver("pat+x@partner.example")
        await scenario.replace_approver(OTHER)
        assert (await scenario.until(Status.PENDING, sent=3)).needs_attention == ()


async def test_requester_whom_a_customer_reported_is_reviewed(
    scenario: Scenario, query_store: Query
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.client.decline(scenario.started.workflow_id, report=True)
        await scenario.handle.result()
        assert await query_store("SELECT is_reported FROM requests") == [{"is_reported": True}]
        await scenario.start()
        await scenario.until(Status.IN_REVIEW, sent=1)
        reasons = (await scenario.status_as_stored()).needs_attention
        assert reasons == ("A customer reported an earlier request of this requester.",)


async def test_operators_get_one_email_within_fifteen_minutes(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await start_odd(scenario)
        first = text_of(await mail_server.wait_for("review-needed", OPERATORS))
        assert "acme.example" in first
        for name in ("two", "three"):
            await start_odd(scenario, account_domain=f"{name}.example")
        async with asyncio.timeout(40):
            while (await scenario.pending_activities())[0].attempt < 2:
                await asyncio.sleep(0.05)
        assert mail_server.kinds(OPERATORS) == ["review-needed"]
        await scenario.env.sleep(timedelta(minutes=16))
        async with asyncio.timeout(40):
            while len(mail_server.kinds(OPERATORS)) < 2:
                await asyncio.sleep(0.05)
        await scenario.env.sleep(timedelta(minutes=40))
        assert mail_server.kinds(OPERATORS) == ["review-needed"] * 2
    _, second = [email for email in mail_server.emails if email["To"] == OPERATORS]
    assert second["Subject"] == "3 requests wait for your review"
    assert {"two.example", "three.example"} <= set(text_of(second).replace(":", " ").split())
