"""Closing emails that the mail server refuses temporarily: they must not keep the request open."""

from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType, ParentClosePolicy
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import RetryPolicy

from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.names import REMAINING_EMAILS_TYPE, TASK_QUEUE
from smart_accounts.contract.steps import Addressee, Email, SendEmails
from smart_accounts.errors import Rejected
from tests.support.histories import Keep
from tests.support.mail_server import MailServer
from tests.support.read_model import status_in
from tests.support.scenario import MINUTE, REQUESTER, Scenario
from workflows import mailing


async def test_another_workflow_sends_emails_left_after_an_hour(
    scenario: Scenario, mail_server: MailServer, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = RetryPolicy(initial_interval=4 * MINUTE, backoff_coefficient=1)
    monkeypatch.setitem(mailing.EMAIL_OPTIONS, "retry_policy", policy)
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        mail_server.refusals[REQUESTER] = "451 later"
        await scenario.decline()
        await scenario.until(Status.DECLINED)
        with pytest.raises(
            Rejected,
            match=r"ended as declined, and its last emails are still being sent.*"
            r"Try again in at most 60 minutes",
        ):
            await scenario.start()
        # This is after the try that hands over, at minute 52, and just before the next one: a
        # child that outlives its parent stops the time-skipping server from skipping.
        await scenario.env.sleep(56 * MINUTE - timedelta(seconds=2))
        await scenario.until_closed()
        assert (await scenario.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
        history = await scenario.handle.fetch_history()
        keep("declined-with-remaining-mails", history)
        [child] = [
            event.start_child_workflow_execution_initiated_event_attributes
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
        ]
        # The time-skipping server never ends a child with its parent, so check the policy itself.
        assert child.parent_close_policy == ParentClosePolicy.PARENT_CLOSE_POLICY_ABANDON
        first = scenario.started
        waiting = await status_in(scenario.store, first.request_id)
        states = {email.kind: email.state for email in waiting.emails}
        assert states[EmailKind.DECLINED] == "queued"
        del mail_server.refusals[REQUESTER]
        await scenario.start()  # the workflow id is free again
        await scenario.until(Status.PENDING, sent=2)
        remaining = scenario.env.client.get_workflow_handle(
            f"smart-account-mails-{first.request_id}"
        )
        await remaining.result()
        keep("remaining-mails", await remaining.fetch_history())
        stored = await status_in(scenario.store, first.request_id)
    assert {email.kind: email.state for email in stored.emails}[EmailKind.DECLINED] == "sent"
    assert mail_server.kinds(REQUESTER).count("declined") == 1


async def test_request_that_was_reset_hands_over_only_once(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        mail_server.refusals[REQUESTER] = "451 later"
        declined = Email(kind=EmailKind.DECLINED, to=Addressee.REQUESTER)
        remaining = await scenario.env.client.start_workflow(  # as before the reset
            REMAINING_EMAILS_TYPE,
            SendEmails(request_id=scenario.started.request_id, emails=(declined,)),
            id=f"smart-account-mails-{scenario.started.request_id}",
            task_queue=TASK_QUEUE,
        )
        await scenario.decline()
        await scenario.until(Status.DECLINED)
        await scenario.env.sleep(61 * MINUTE)
        await scenario.until_closed()
        assert (await scenario.handle.describe()).status == WorkflowExecutionStatus.COMPLETED
        del mail_server.refusals[REQUESTER]
        await remaining.result()
    assert mail_server.kinds(REQUESTER).count("declined") == 1


async def test_hand_over_adds_no_events_if_all_emails_are_sent(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.decline()
        await scenario.until_closed()
        events = (await scenario.handle.fetch_history()).events
    kinds = [event.event_type for event in events]
    assert EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED not in kinds
    assert kinds.count(EventType.EVENT_TYPE_TIMER_STARTED) == 1
