"""Decisions, new links and bounces that arrive while an email or a step is under way."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.contract.steps import Addressee, Email
from smart_accounts.errors import Rejected
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, OTHER, REQUESTER, Scenario
from tests.support.store import Query


@pytest.fixture
def env(dev_server_env: WorkflowEnvironment) -> WorkflowEnvironment:
    return dev_server_env


async def wait_for_emails_in_flight(mail_server: MailServer, count: int) -> None:
    async with asyncio.timeout(40):
        while mail_server.slow_attempts < count:
            await asyncio.sleep(0.02)


async def test_decision_while_emails_are_refused(
    scenario: Scenario, mail_server: MailServer
) -> None:
    mail_server.slow_recipients = {CUSTOMER, REQUESTER}
    mail_server.refusals = dict.fromkeys(mail_server.slow_recipients, "451 later")
    async with scenario.worker():
        await scenario.start()
        await wait_for_emails_in_flight(mail_server, 2)
        await scenario.accept()
        await scenario.until(Status.ACTIVE)
        mail_server.slow_recipients = set()
        await asyncio.sleep(0.5)
        mail_server.refusals = {}
        async with asyncio.timeout(60):
            assert (await scenario.handle.result())["status"] == "active"
        assert (await scenario.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
    assert sorted(mail_server.kinds()) == ["access-granted", "activated", "welcome"]


async def test_new_approver_does_not_wait_for_another_email(
    scenario: Scenario, mail_server: MailServer
) -> None:
    mail_server.slow_recipients = {CUSTOMER}
    mail_server.refusals = {REQUESTER: "451 later"}
    async with scenario.worker():
        await scenario.start()
        await wait_for_emails_in_flight(mail_server, 1)
        await scenario.replace_approver(OTHER)
        mail_server.slow_recipients = set()
        async with asyncio.timeout(40):
            await mail_server.wait_for("activation", OTHER)
        now = await scenario.until(Status.PENDING, sent=2)
        assert (EmailKind.REQUEST_RECEIVED, EmailState.QUEUED) in {
            (email.kind, email.state) for email in now.emails
        }


async def test_decision_keeps_the_approver_who_was_asked(
    scenario: Scenario, mail_server: MailServer, query_store: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue_link = scenario.store.requests.issue_link
    issuing, decided = asyncio.Event(), asyncio.Event()

    async def issue_after_decision(*args: Any) -> Any:
        issuing.set()
        await decided.wait()
        return await issue_link(*args)

    monkeypatch.setattr(scenario.store.requests, "issue_link", issue_after_decision)
    async with scenario.worker():
        await scenario.start(user_emails=[])
        await scenario.until(Status.PENDING, sent=2)
        replacing = asyncio.create_task(scenario.replace_approver(OTHER))
        await asyncio.wait_for(issuing.wait(), 40)
        await scenario.accept(CUSTOMER)
        async with asyncio.timeout(40):
            while "is being recorded: active" not in ((await scenario.status()).next_step or ""):
                await asyncio.sleep(0.02)
        decided.set()
        with pytest.raises(Rejected, match="Too late: the request is already active"):
            await replacing
        assert (await scenario.handle.result())["status"] == "active"
    assert [row["email"] for row in await query_store("SELECT email FROM account_users")] == [
        CUSTOMER
    ]
    [in_force] = await query_store("SELECT link_ordinal FROM requests")
    assert in_force["link_ordinal"] == 1, "the customer's link is not superseded"
    assert mail_server.kinds(CUSTOMER) == ["activation", "welcome"]
    assert not mail_server.kinds(OTHER)


async def test_bounce_before_the_outcome_of_its_sending_counts(
    scenario: Scenario, mail_server: MailServer
) -> None:
    mail_server.slow_recipients = {CUSTOMER}
    received = Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER)
    async with scenario.worker():
        await scenario.start()
        await mail_server.wait_for("request-received")
        await scenario.report_bounce(received, "550 gone")
        mail_server.slow_recipients = set()
        now = await scenario.until(Status.PENDING, sent=1)
    assert {email.kind.value: email.state.value for email in now.emails} == {
        "activation": "sent",
        "request-received": "bounced",
    }
