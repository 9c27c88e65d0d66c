"""Emails that a mail server does not take when the request has ended, and who may start again."""

from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType, ParentClosePolicy
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import RetryPolicy

from smart_accounts.contract.messages import Addressee, Email, EmailKind, Status
from smart_accounts.contract.names import REMAINING_EMAILS_TYPE, TASK_QUEUE
from smart_accounts.contract.steps import SendEmails
from smart_accounts.errors import Rejected
from tests.support.read_model import status_in
from workflows import mailing

MINUTE = timedelta(minutes=1)
CUSTOMER, REQUESTER = "ada@acme.example", "pat@partner.example"


async def test_what_is_left_after_an_hour_goes_on_without_the_request(
    story: Any, mail_server: Any, keep: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = RetryPolicy(initial_interval=4 * MINUTE, backoff_coefficient=1)
    monkeypatch.setitem(mailing.MAIL, "retry_policy", policy)
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        mail_server.refusals[REQUESTER] = "451 later"
        await story.client.decline(story.started.workflow_id)
        await story.until(Status.DECLINED)
        with pytest.raises(Rejected, match=r"ended declined and is still closing.*Try again in"):
            await story.start()
        # After the try that hands over, at minute 52, and just before the next one: a child that
        # outlives its parent stops the time-skipping server from skipping.
        await story.env.sleep(56 * MINUTE - timedelta(seconds=2))
        await story.until_closed()
        assert (await story.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
        history = await story.handle.fetch_history()
        keep("declined-with-remaining-mails", history)
        [child] = [
            event.start_child_workflow_execution_initiated_event_attributes
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
        ]
        # The time-skipping server ends no child with its parent, so only this tells.
        assert child.parent_close_policy == ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON
        first = story.started
        waiting = await status_in(story.store, first.request_id)
        assert {mail.kind: mail.state for mail in waiting.emails}[EmailKind.DECLINED] == "queued"
        del mail_server.refusals[REQUESTER]
        await story.start()  # the id is free again
        await story.until(Status.PENDING, sent=2)
        remaining = story.env.client.get_workflow_handle(f"smart-account-mails-{first.request_id}")
        await remaining.result()
        keep("remaining-mails", await remaining.fetch_history())
        stored = await status_in(story.store, first.request_id)
    assert {mail.kind: mail.state for mail in stored.emails}[EmailKind.DECLINED] == "sent"
    assert mail_server.kinds(REQUESTER).count("declined") == 1


async def test_emails_that_go_on_already_are_left_to_that(story: Any, mail_server: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        mail_server.refusals[REQUESTER] = "451 later"
        declined = Email(kind=EmailKind.DECLINED, to=Addressee.REQUESTER)
        remaining = await story.env.client.start_workflow(  # as before the run was reset
            REMAINING_EMAILS_TYPE,
            SendEmails(request_id=story.started.request_id, emails=(declined,)),
            id=f"smart-account-mails-{story.started.request_id}",
            task_queue=TASK_QUEUE,
        )
        await story.client.decline(story.started.workflow_id)
        await story.until(Status.DECLINED)
        await story.env.sleep(61 * MINUTE)
        await story.until_closed()
        assert (await story.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
        del mail_server.refusals[REQUESTER]
        await remaining.result()
    assert mail_server.kinds(REQUESTER).count("declined") == 1


async def test_costs_nothing_where_the_mail_server_answers(story: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await story.client.decline(story.started.workflow_id)
        await story.until_closed()
        events = (await story.handle.fetch_history()).events
    kinds = [event.event_type for event in events]
    assert EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED not in kinds
    assert kinds.count(EventType.EVENT_TYPE_TIMER_STARTED) == 1


async def test_customer_with_enough_open_requests(
    story: Any, mail_server: Any, limits: Any
) -> None:
    async with story.worker():
        for number in range(limits.open_per_customer):
            await story.start(account_domain=f"acme-{number}.example")
            await story.until(Status.PENDING, sent=2)
        before = len(mail_server.mails)
        await story.start(customer_email="ADA@acme.example")
        result = await story.handle.result()
        assert result["status"] == "rejected"
        assert "has 5 open requests already" in result["reason"]
        [told] = mail_server.mails[before:]
        assert (told["X-Smart-Account-Mail"], told["To"]) == ("rejected", REQUESTER)

        await story.client.decline("smart-account-acme-0.example")
        await story.env.client.get_workflow_handle("smart-account-acme-0.example").result()
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await story.start(customer_email="cy@other.example", account_domain="other.example")
        await story.until(Status.PENDING, sent=2)
        with pytest.raises(Rejected, match="has 5 open requests already"):
            await story.replace(CUSTOMER)
        assert (await story.agreed()).emails[0].recipient == "cy@other.example"


async def test_requester_who_starts_too_many_in_an_hour(
    story: Any, mail_server: Any, limits: Any
) -> None:
    async with story.worker():
        for number in range(limits.starts_per_requester_per_hour):
            customer = f"ada@acme-{number}.example"
            await story.start(account_domain=f"acme-{number}.example", customer_email=customer)
            await story.until(Status.PENDING, sent=2)
        await story.start()
        result = await story.handle.result()
        assert result["status"] == "rejected"
        assert "made 7 requests within an hour" in result["reason"]
        assert not mail_server.kinds(CUSTOMER)
        await story.env.sleep(61 * MINUTE)
        await story.start()
        await story.until(Status.PENDING, sent=2)
