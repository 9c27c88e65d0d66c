"""Payloads of other encodings than JSON are never taken as a message."""

import asyncio
from typing import Any

from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.update.v1 import Input, Meta, Outcome, Request, WaitPolicy
from temporalio.api.workflowservice.v1 import (
    UpdateWorkflowExecutionRequest,
)
from temporalio.client import Client

from smart_accounts.contract.messages import Status
from smart_accounts.temporal.records import Started
from tests.e2e.test_bad_messages import failed_tasks, failure_of, send, start_raw
from tests.support.service import Service

PROTOBUF = b"temporal.api.common.v1.WorkflowExecution"
REFERENCE = b"temporal.api.sdk.v1.ExternalStorageReference"
FOREIGN = {
    "nothing, as bytes": Payload(metadata={"encoding": b"binary/plain"}),
    "text, as bytes": Payload(metadata={"encoding": b"binary/plain"}, data=b"x"),
    "JSON, as bytes": Payload(metadata={"encoding": b"binary/plain"}, data=b"{}"),
    "protobuf": Payload(metadata={"encoding": b"binary/protobuf", "messageType": PROTOBUF}),
    "protobuf as JSON": Payload(
        metadata={"encoding": b"json/protobuf", "messageType": PROTOBUF}, data=b"{}"
    ),
    "a reference to external storage": Payload(
        metadata={"encoding": b"json/protobuf", "messageType": REFERENCE}, data=b"{}"
    ),
    "a reference of another form": Payload(
        metadata={"encoding": b"json/external-storage-reference"}, data=b"{}"
    ),
    "an encrypted reference": Payload(
        metadata={"encoding": b"json/plain", "__temporal_external_storage_reference": b"true"},
        data=b"[]",
    ),
}
UPDATES = ("withdraw", "replace_approver")  # resending has no argument; the SDK drops any


async def update_raw(temporal: Client, started: Started, name: str, payload: Payload) -> Outcome:
    """Send an update that no client library would send, and return its outcome."""
    request = UpdateWorkflowExecutionRequest(
        namespace="default",
        workflow_execution=WorkflowExecution(workflow_id=started.workflow_id),
        wait_policy=WaitPolicy(
            lifecycle_stage=UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED
        ),
        request=Request(
            meta=Meta(update_id=f"{name}-{hash(payload.data)}-{payload.metadata['encoding']!r}"),
            input=Input(name=name, args=Payloads(payloads=[payload])),
        ),
    )
    async with asyncio.timeout(40):
        reply = await temporal.workflow_service.update_workflow_execution(request)
    return reply.outcome


async def test_signals_and_updates_of_other_encodings(
    service: Service, new_request: dict[str, Any]
) -> None:
    await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    for payload in FOREIGN.values():
        for name in ("accepted", "declined", "bounced"):
            await send(service, started, name, Payloads(payloads=[payload]))
        for name in UPDATES:
            outcome = await update_raw(service.temporal, started, name, payload)
            assert outcome.failure.application_failure_info.type == "InvalidRequest", outcome
    still = await service.wait_for(started, Status.PENDING)
    assert still.decided_at is None
    assert service.log.count("Dropped signal accepted") == len(FOREIGN)
    await service.requests().accept(started.workflow_id)
    await service.wait_for(started, Status.ACTIVE)
    assert await failed_tasks(service, started) == 0


async def test_starts_of_other_encodings_fail(service: Service) -> None:
    await service.start_worker()
    for number, (name, payload) in enumerate(FOREIGN.items()):
        workflow_id = f"smart-account-encoded-{number}.example"
        await start_raw(service, workflow_id, Payloads(payloads=[payload]))
        cause = await failure_of(service, workflow_id)
        assert cause.type == "InvalidRequest", name
        assert cause.message in {"request: must be an object", "request: cannot be read"}, name
        history = await service.temporal.get_workflow_handle(workflow_id).fetch_history()
        kinds = [event.event_type for event in history.events]
        assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds, name
