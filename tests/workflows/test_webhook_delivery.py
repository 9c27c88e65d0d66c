"""Events for a webhook endpoint over days: outages, an endpoint that is disabled, and operators."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import AnyHttpUrl
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType as EventKind
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError

from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import TASK_QUEUE, WEBHOOK_DELIVERY_TYPE, webhook_delivery_id
from smart_accounts.contract.webhooks import DeliveryState, EndpointState, EventType
from smart_accounts.settings import Settings
from smart_accounts.store import deliveries
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Endpoint
from smart_accounts.webhooks import sender
from tests.support.histories import Keep
from tests.support.mail_server import MailServer
from tests.support.scenario import DAY, MINUTE, OTHER, Scenario
from tests.support.subscriber import CLOSE, FAIL, HANG, MOVE, TAKE, Subscriber

HOUR = timedelta(hours=1)
ODD_PAYLOADS = [
    (Payload(metadata={"encoding": b"json/plain"}, data=b'{"no": "argument"}'),),
    (Payload(metadata={"encoding": b"json/plain"}, data=b"{"),),
    (Payload(metadata={"encoding": b"binary/plain"}, data=b"\0"),),
    (Payload(metadata={"encoding": b"binary/encrypted"}, data=b"?"),),
    (Payload(),) * 3,
]
OWNER = "opal@service.example"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"public_url": AnyHttpUrl("http://127.0.0.1:8000")})


@pytest.fixture(autouse=True)
def less_real_time(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Wait a second for an endpoint that hangs. Without ``--full``, try it every eight hours."""
    monkeypatch.setattr(sender, "TIME_LIMIT", 1)
    if not request.config.getoption("--full"):
        monkeypatch.setattr(deliveries, "LONGEST_RETRY", 8 * HOUR)


@pytest.fixture
async def endpoint(scenario: Scenario, store: AccountStore, subscriber: Subscriber) -> Endpoint:
    return await subscriber.register(store, now=await scenario.now())


def handle_of(scenario: Scenario, endpoint: Endpoint) -> WorkflowHandle[Any, Any]:
    return scenario.env.client.get_workflow_handle(webhook_delivery_id(endpoint.id))


async def ping(scenario: Scenario, endpoint: Endpoint) -> None:
    await scenario.store.webhooks.ping(endpoint.id, await scenario.now())


async def pass_half_days(scenario: Scenario, number: int) -> None:
    """Let time pass in parts, because one call may take half a minute of real time."""
    for _ in range(number):
        await scenario.env.sleep(DAY / 2)


async def until_closed(handle: WorkflowHandle[Any, Any]) -> None:
    async with asyncio.timeout(40):
        while (await handle.describe()).status == WorkflowExecutionStatus.RUNNING:
            await asyncio.sleep(0.02)


async def until_waiting(handle: WorkflowHandle[Any, Any]) -> None:
    """Wait until the workflow waits for its timer."""
    async with asyncio.timeout(40):
        while True:
            described = (await handle.describe()).raw_description
            if not described.pending_activities and not described.HasField("pending_workflow_task"):
                return
            await asyncio.sleep(0.02)


async def until_tried(store: AccountStore, endpoint: Endpoint, number: int) -> None:
    """Wait until each of so many deliveries was tried."""
    async with asyncio.timeout(40):
        while True:
            found = await store.webhooks.deliveries(endpoint.id)
            if sum(each.attempts > 0 for each in found) == number:
                return
            await asyncio.sleep(0.02)


async def test_no_event_is_lost_while_the_receiver_is_down_for_two_days(
    scenario: Scenario, store: AccountStore, subscriber: Subscriber, endpoint: Endpoint
) -> None:
    subscriber.reply = FAIL
    async with scenario.worker(cached=10):
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.replace_approver(OTHER)
        await until_tried(store, endpoint, 2)
        for reply in (FAIL, MOVE, CLOSE, HANG):
            subscriber.reply = reply
            await pass_half_days(scenario, 1)
        await scenario.accept(OTHER)
        await scenario.until(Status.ACTIVE)
        await until_tried(store, endpoint, 3)
        await subscriber.stop()
        await scenario.env.sleep(HOUR)
        assert {each.reply for each in subscriber.received} == {FAIL, MOVE, CLOSE, HANG}
        subscriber.reply = TAKE
        await subscriber.start()
        handle = handle_of(scenario, endpoint)
        await scenario.env.sleep(8 * HOUR)
        await until_closed(handle)

    written = await store.webhooks.deliveries(endpoint.id)
    assert [each.state for each in written] == [DeliveryState.DELIVERED] * 3
    taken = subscriber.taken()
    order = {each.sequence: each.event["type"] for each in taken}
    assert order == {1: EventType.PENDING, 2: EventType.APPROVER_REPLACED, 3: EventType.ACTIVE}
    # Every copy of an event has the same id and the same body.
    copies = {(each.id, each.body) for each in subscriber.received}
    assert copies == {(each.event_id, each.body) for each in written}
    assert {each.path for each in subscriber.received} == {"/hooks"}, "redirects are not followed"


async def test_endpoint_is_disabled_after_five_days_with_one_email(
    scenario: Scenario,
    store: AccountStore,
    subscriber: Subscriber,
    endpoint: Endpoint,
    mail_server: MailServer,
) -> None:
    subscriber.reply = FAIL
    began = await scenario.now()
    async with scenario.worker(cached=10):
        await ping(scenario, endpoint)
        await until_tried(store, endpoint, 1)
        handle = handle_of(scenario, endpoint)
        run_id = (await handle.describe()).run_id
        await pass_half_days(scenario, 5)
        await ping(scenario, endpoint)
        await until_tried(store, endpoint, 2)
        await pass_half_days(scenario, 4)
        await scenario.env.sleep(DAY / 2 - HOUR)
        found = await store.webhooks.find(endpoint.id)
        assert found
        assert (found.state, found.disabled_at) == (EndpointState.ENABLED, None)
        await mail_server.stop()
        while found and found.state is EndpointState.ENABLED:
            await scenario.env.sleep(2 * HOUR)
            found = await store.webhooks.find(endpoint.id)
        assert found
        assert found.disabled_at
        assert (found.state, found.owner_told_at) == (EndpointState.DISABLED, None)
        assert found.disabled_at - began >= 5 * DAY
        await mail_server.start()
        await scenario.env.sleep(HOUR)
        await until_closed(handle)
        assert (await handle.describe()).run_id == run_id
        # A later event reaches nobody, and the owner is not told again.
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
    assert mail_server.kinds(OWNER) == ["webhook-disabled"]
    states = [each.state for each in await store.webhooks.deliveries(endpoint.id)]
    assert states == [DeliveryState.FAILED] * 2


async def test_pause_resume_and_deletion_while_the_workflow_waits(
    scenario: Scenario, store: AccountStore, subscriber: Subscriber, endpoint: Endpoint
) -> None:
    subscriber.reply = FAIL
    async with scenario.worker(cached=10):
        await ping(scenario, endpoint)
        await until_tried(store, endpoint, 1)
        handle = handle_of(scenario, endpoint)
        await store.webhooks.set_state(endpoint.id, EndpointState.PAUSED, await scenario.now())
        tried = len(subscriber.received)
        await scenario.env.sleep(MINUTE)
        await until_closed(handle)
        subscriber.reply = TAKE
        await scenario.start()  # a paused endpoint keeps its events
        await scenario.until(Status.PENDING, sent=2)
        await scenario.env.sleep(MINUTE)
        assert len(subscriber.received) == tried
        await store.webhooks.set_state(endpoint.id, EndpointState.ENABLED, await scenario.now())
        await subscriber.wait_for(2)

        subscriber.reply = FAIL
        await ping(scenario, endpoint)
        await subscriber.wait_for(tried + 1, reply=FAIL)
        await store.webhooks.delete(endpoint.id)
        await scenario.env.sleep(MINUTE)
        await until_closed(handle_of(scenario, endpoint))
    assert len(subscriber.received) == tried + 3
    assert {each.event["type"] for each in subscriber.taken()} == {
        EventType.PING,
        EventType.PENDING,
    }


async def test_no_signal_is_in_the_way(
    scenario: Scenario,
    store: AccountStore,
    subscriber: Subscriber,
    endpoint: Endpoint,
    keep: Keep,
) -> None:
    subscriber.reply = FAIL
    async with scenario.worker(cached=10):
        await scenario.start()
        await until_tried(store, endpoint, 1)
        handle = handle_of(scenario, endpoint)
        for payloads in ODD_PAYLOADS:
            await signal(scenario, endpoint, *payloads)
        await scenario.env.sleep(HOUR)
        await scenario.accept()
        await until_tried(store, endpoint, 2)
        subscriber.reply = TAKE
        await scenario.env.sleep(HOUR)
        await until_closed(handle)
    assert {each.sequence for each in subscriber.taken()} == {1, 2}
    history = await handle.fetch_history()
    keep("webhook-delivered", history)
    kinds = [event.event_type for event in history.events]
    assert kinds.count(EventKind.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) > len(ODD_PAYLOADS)
    assert EventKind.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds


async def signal(scenario: Scenario, endpoint: Endpoint, *payloads: Payload) -> None:
    await scenario.env.client.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=webhook_delivery_id(endpoint.id)),
            signal_name="deliveries_waiting",
            input=Payloads(payloads=payloads),
        )
    )


async def test_bad_start_fails(scenario: Scenario, endpoint: Endpoint) -> None:
    bad = [{"endpoint_id": str(uuid4())}, {"endpoint_id": None}, {}, None, "text"]
    starts = [(endpoint.id, each) for each in bad] + [("any-text", {"endpoint_id": "any-text"})]
    async with scenario.worker(cached=10):
        for endpoint_id, given in starts:
            with pytest.raises(WorkflowFailureError) as failure:
                await scenario.env.client.execute_workflow(
                    WEBHOOK_DELIVERY_TYPE,
                    given,
                    id=webhook_delivery_id(endpoint_id),
                    task_queue=TASK_QUEUE,
                )
            assert isinstance(failure.value.cause, ApplicationError)
            assert failure.value.cause.type == "InvalidRequest"
