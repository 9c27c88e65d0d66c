"""A request against a model of the guard, with messages of any kind, encoding, number and body.

``ANY_MESSAGE_EXAMPLES=300`` makes a long run, and ``--full`` one of 12.
"""

import asyncio
import os
from collections.abc import Sequence
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.update.v1 import Input, Meta, Outcome, Request, WaitPolicy
from temporalio.api.workflowservice.v1 import (
    QueryWorkflowRequest,
    SignalWorkflowExecutionRequest,
    UpdateWorkflowExecutionRequest,
)

from smart_accounts.contract.actions import ActionResult
from smart_accounts.contract.messages import Status
from tests.support.messages import Message, messages
from tests.support.scenario import Run, Scenario

SHORT, FULL = 4, 12
EXAMPLES = int(os.environ.get("ANY_MESSAGE_EXAMPLES", FULL))
COMPLETED = (
    UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
)

_numbers = count(1)


class Client:
    """Sends messages to one request as no client library would."""

    def __init__(self, scenario: Scenario) -> None:
        self._service = scenario.env.client.workflow_service
        started = scenario.started
        self._execution = WorkflowExecution(
            workflow_id=started.workflow_id, run_id=started.request_id
        )

    async def signal(self, message: Message) -> None:
        await self._service.signal_workflow_execution(
            SignalWorkflowExecutionRequest(
                namespace="default",
                workflow_execution=self._execution,
                signal_name=message.kind.name,
                input=Payloads(payloads=message.payloads),
            )
        )

    async def update(self, message: Message) -> Outcome:
        arguments = Payloads(payloads=message.payloads)
        request = UpdateWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=self._execution,
            wait_policy=WaitPolicy(lifecycle_stage=COMPLETED),
            request=Request(
                meta=Meta(update_id=f"update-{next(_numbers)}"),
                input=Input(name=message.kind.name, args=arguments),
            ),
        )
        async with asyncio.timeout(40):
            while True:
                reply = await self._service.update_workflow_execution(request)
                if reply.HasField("outcome"):
                    return reply.outcome

    async def query(self, message: Message) -> None:
        arguments = Payloads(payloads=message.payloads)
        await self._service.query_workflow(
            QueryWorkflowRequest(
                namespace="default",
                execution=self._execution,
                query=WorkflowQuery(query_type=message.kind.name, query_args=arguments),
            )
        )


async def start(scenario: Scenario) -> Client:
    domain = f"message-{next(_numbers)}.example"
    requester = {"email": f"pat@partner-{domain}", "name": "Pat", "company": "Partner"}
    await scenario.start(account_domain=domain, customer_email=f"ada@{domain}", requester=requester)
    await scenario.until(Status.PENDING, sent=2)
    return Client(scenario)


async def send_until_decided(scenario: Scenario, sent: Sequence[Message]) -> Status | None:
    """Send the messages, up to one that decides. Return the status that it leads to."""
    client, links = await start(scenario), 1
    for message in sent:
        leads_to = None if message.body is None else message.kind.decides(message.body, links)
        if leads_to:
            await scenario.until_all_sent()
        if message.kind.call == "query":
            await client.query(message)
        elif message.kind.call == "signal":
            await client.signal(message)
        else:
            outcome = await client.update(message)
            is_done = outcome.HasField("success")
            error = outcome.failure.application_failure_info.type
            if message.body is None:
                assert error == "InvalidRequest", (message, outcome)
            else:
                assert is_done or error == "ActionRefused", (message, outcome)
            # A withdrawal issues no link, but is the last message.
            links += is_done and not is_repeat(outcome.success)
            leads_to = leads_to if is_done else None
        if leads_to:
            return leads_to
    return None


def is_repeat(result: Payloads) -> bool:
    return ActionResult.model_validate_json(result.payloads[0].data).is_repeat


async def check(scenario: Scenario, sent: Sequence[Message], is_accepted: bool) -> None:
    status = await send_until_decided(scenario, sent)
    now = await scenario.until(status or Status.PENDING)
    if status is None and is_accepted:
        status = Status.ACTIVE
        await scenario.accept()
    elif status is None:
        status = Status.LAPSED
        await scenario.sleep_until(now.deadline + timedelta(seconds=1))
    await scenario.until(status)
    await scenario.until_closed()
    events = (await scenario.handle.fetch_history()).events
    kinds = [event.event_type for event in events]
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # one payload has 300 KB
@pytest.mark.timeout(max(240, 8 * EXAMPLES))
def test_any_message(scenario_with_worker: Scenario, run: Run, full: bool) -> None:
    @settings(
        max_examples=SHORT if EXAMPLES == FULL and not full else EXAMPLES,
        derandomize=EXAMPLES == FULL,
        database=None,
        phases=[Phase.generate],  # shrinking would wait for each blocked request
        suppress_health_check=list(HealthCheck),
    )
    @given(sent=st.lists(messages(), min_size=8, max_size=20), is_accepted=st.booleans())
    def send(sent: list[Message], is_accepted: bool) -> None:
        run(check(scenario_with_worker, sent, is_accepted))

    send()
