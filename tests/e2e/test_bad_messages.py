"""Bad messages do not block a request, and other clients can use the plain Temporal CLI."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import EventType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    SignalWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
)
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from smart_accounts.contract.messages import Status
from smart_accounts.temporal.records import Started
from tests.support.ports import FreePort
from tests.support.service import Service

JSON = {"encoding": b"json/plain"}


def payloads_of(*bodies: str | None, **metadata: bytes) -> Payloads:
    return Payloads(
        payloads=[
            Payload(metadata={"encoding": b"binary/null"})
            if body is None
            else Payload(metadata=metadata or JSON, data=body.encode())
            for body in bodies
        ]
    )


BAD_SIGNALS: dict[str, Payloads] = {
    "malformed JSON": payloads_of('{"accepted_by": '),
    "not JSON at all": payloads_of("\x00\xff"),
    "a number": payloads_of("3"),
    "true": payloads_of("true"),
    "text": payloads_of('"yes"'),
    "a list": payloads_of("[]"),
    "a field of the wrong type": payloads_of('{"accepted_by": 5}'),
    "an unknown field": payloads_of('{"agree": true}'),
    "a very long name": payloads_of(json.dumps({"accepted_by": "x" * 5000})),
    "two arguments": payloads_of("{}", "{}"),
    "two malformed arguments": payloads_of("{", "{"),
    "three nulls": payloads_of(None, None, None),
    "an unknown encoding": payloads_of("{}", encoding=b"json/protobuf-of-mine"),
    "encrypted with an unknown key": payloads_of("garbage", encoding=b"binary/encrypted"),
    "no encoding": Payloads(payloads=[Payload(data=b"{}")]),
}


async def send(service: Service, started: Started, name: str, payloads: Payloads) -> None:
    await service.temporal.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=started.workflow_id),
            signal_name=name,
            input=payloads,
        )
    )


async def failed_tasks(service: Service, started: Started) -> int:
    events = (await service.handle(started).fetch_history()).events
    return sum(event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED for event in events)


async def test_bad_signals_before_an_acceptance(
    service: Service, new_request: dict[str, Any]
) -> None:
    await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    for payloads in BAD_SIGNALS.values():
        for name in ("accepted", "declined", "bounced", "no-such-signal"):
            await send(service, started, name, payloads)
    for payloads in (Payloads(), payloads_of(None), payloads_of("null"), payloads_of("{}")):
        await send(service, started, "bounced", payloads)
    await send(service, started, "declined", payloads_of('{"reason": "\\u202e"}'))
    still = await service.wait_for(started, Status.PENDING)
    assert still.decided_at is None
    assert service.log.count("Dropped signal accepted") == len(BAD_SIGNALS)
    assert service.log.count("Dropped signal declined") == len(BAD_SIGNALS) + 1
    assert "Traceback" not in service.log
    await service.requests().accept(started.workflow_id)
    await service.wait_for(started, Status.ACTIVE)
    assert await failed_tasks(service, started) == 0


@pytest.mark.parametrize(
    "payloads", [Payloads(), payloads_of(None), payloads_of("{}"), payloads_of("null")]
)
async def test_acceptance_without_fields(
    service: Service, new_request: dict[str, Any], payloads: Payloads
) -> None:
    await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING)
    await send(service, started, "accepted", payloads)
    await service.wait_for(started, Status.ACTIVE)


BAD_STARTS: dict[str, tuple[Payloads | None, str]] = {
    "no argument": (None, "request: "),
    "null": (payloads_of(None), "request: "),
    "JSON null": (payloads_of("null"), "request: "),
    "two arguments": (payloads_of("{}", "{}"), "request: must be one object, not 2 arguments"),
    "two malformed arguments": (payloads_of("{", "{"), "request: must be one object"),
    "malformed JSON": (payloads_of('{"account_name": '), "request: is not valid JSON"),
    "a list": (payloads_of("[]"), "request: must be an object"),
    "text": (payloads_of('"acme.example"'), "request: must be an object"),
    "an empty object": (payloads_of("{}"), "account_name: is required"),
    "an unknown encoding": (payloads_of("{}", encoding=b"x/y"), "request: cannot be read"),
}


async def start_raw(service: Service, workflow_id: str, payloads: Payloads | None) -> None:
    await service.temporal.workflow_service.start_workflow_execution(
        StartWorkflowExecutionRequest(
            namespace="default",
            workflow_id=workflow_id,
            request_id=workflow_id,
            workflow_type=WorkflowType(name="SmartAccountRequestWorkflow"),
            task_queue=TaskQueue(name="smart-account-requests"),
            input=payloads,
        )
    )


async def failure_of(service: Service, workflow_id: str) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as failure:
        async with asyncio.timeout(40):
            await service.temporal.get_workflow_handle(workflow_id).result()
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause


async def test_bad_starts_fail(service: Service, new_request: dict[str, Any]) -> None:
    await service.start_worker()
    for number, (name, (payloads, message)) in enumerate(BAD_STARTS.items()):
        workflow_id = f"smart-account-bad-{number}.example"
        await start_raw(service, workflow_id, payloads)
        cause = await failure_of(service, workflow_id)
        assert cause.type == "InvalidRequest", name
        assert cause.non_retryable
        assert message in cause.message, name
    assert not service.mail.emails


async def test_bad_fields_fail_with_one_message_per_field_and_no_value(
    service: Service, new_request: dict[str, Any]
) -> None:
    await service.start_worker()
    secret = "swordfish@@"
    body = new_request | {
        "customer_email": secret,
        "account_name": "a\nb",
        "acceptance_window": "P3M",
    }
    workflow_id = f"smart-account-{new_request['account_domain']}"
    await start_raw(service, workflow_id, payloads_of(json.dumps(body)))
    cause = await failure_of(service, workflow_id)
    assert [line.partition(":")[0] for line in cause.message.split("; ")] == [
        "account_name",
        "customer_email",
        "acceptance_window",
    ]
    history = (await service.temporal.get_workflow_handle(workflow_id).fetch_history()).to_json()
    assert "swordfish" not in history.replace(
        json.loads(history)["events"][0]["workflowExecutionStartedEventAttributes"]["input"][
            "payloads"
        ][0]["data"],
        "",
    )
    assert "swordfish" not in service.log


async def test_free_mail_domain_fails_and_is_not_indexed(
    service: Service, new_request: dict[str, Any]
) -> None:
    await service.start_worker()
    workflow_id = "smart-account-gmail.com"
    await start_raw(
        service, workflow_id, payloads_of(json.dumps(new_request | {"account_domain": "gmail.com"}))
    )
    cause = await failure_of(service, workflow_id)
    assert cause.type == "InvalidRequest"
    assert cause.message.startswith("account_domain: ")
    assert "free-mail" in cause.message
    described = await service.temporal.get_workflow_handle(workflow_id).describe()
    assert "SmartAccountStatus" not in {pair.key.name for pair in described.typed_search_attributes}
    assert not service.mail.emails


async def test_start_under_another_id_fails(service: Service, new_request: dict[str, Any]) -> None:
    await service.start_worker()
    await start_raw(service, "my-own-id", payloads_of(json.dumps(new_request)))
    cause = await failure_of(service, "my-own-id")
    assert cause.type == "InvalidRequest"
    assert "workflow id" in cause.message


async def test_temporal_cli_with_plain_json(service: Service, new_request: dict[str, Any]) -> None:
    await service.start_worker()
    workflow_id = f"smart-account-{new_request['account_domain']}"
    cli = service.server.cli
    start = (
        "workflow",
        "start",
        "--type=SmartAccountRequestWorkflow",
        "--task-queue=smart-account-requests",
        f"--workflow-id={workflow_id}",
        f"--input={json.dumps(new_request)}",
    )
    assert (await cli(*start)).returncode == 0
    await service.mail.wait_for("activation", new_request["customer_email"])
    assert (await cli(*start)).returncode == 0, "returns the run that is open"

    described = json.loads(
        (await cli("workflow", "describe", "--workflow-id", workflow_id, "-o", "json")).stdout
    )
    shown = described["workflowExecutionInfo"]["searchAttributes"]["indexedFields"]
    assert set(shown) >= {"SmartAccountDeadline", "SmartAccountDomain", "SmartAccountStatus"}

    query = ("workflow", "query", "--workflow-id", workflow_id, "--type", "status", "-o", "json")
    status = json.loads((await cli(*query)).stdout)["queryResult"][0]
    assert status["status"] == "pending"
    assert status["deadline"].endswith("Z")
    assert {"kind", "recipient", "state", "at"} <= set(status["emails"][0])

    signal = ("workflow", "signal", "--workflow-id", workflow_id, "--name", "accepted")
    assert (await cli(*signal)).returncode == 0
    result = await service.temporal.get_workflow_handle(workflow_id).result()
    assert result["status"] == "active"
    assert len(service.mail.kinds()) == 5


async def test_cancel_and_terminate_by_another_client(
    service: Service, new_request: dict[str, Any]
) -> None:
    await service.start_worker()
    cli = service.server.cli
    for end, shown in (("cancel", "COMPLETED"), ("terminate", "TERMINATED")):
        started = await service.start(new_request)
        await service.wait_for(started, Status.PENDING, sent=2)
        await cli("workflow", end, "--workflow-id", started.workflow_id)
        async with asyncio.timeout(40):
            while True:
                found = (await service.handle(started).describe()).status
                if found == WorkflowExecutionStatus[shown]:
                    break
                await asyncio.sleep(0.05)
    again = await service.start(new_request)
    await service.wait_for(again, Status.PENDING, sent=2)


async def test_summaries_and_details_hold_no_personal_data(
    service: Service, new_request: dict[str, Any]
) -> None:
    await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    handle = service.handle(started)
    described = await handle.describe()
    assert await described.static_summary() == f"Smart Account for {new_request['account_domain']}"
    details = await handle.query("__temporal_workflow_metadata")
    description = details.current_details
    assert "Waits for the customer's answer until" in description
    assert new_request["account_domain"] in description
    shown = [description, str(described.typed_search_attributes), started.workflow_id]
    events = (await handle.fetch_history()).events
    shown.extend(event.user_metadata.summary.data.decode() for event in events)
    assert any("Reminder 20" in text for text in shown)
    assert any("Email: activation, request-received" in text for text in shown)
    assert not any("@" in text for text in shown)


async def test_dropped_signals_are_counted_in_metrics(
    service: Service, new_request: dict[str, Any], free_port: FreePort
) -> None:
    address = f"127.0.0.1:{free_port()}"
    await service.start_worker(SMART_ACCOUNTS_METRICS_ADDRESS=address)
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING)
    await send(service, started, "accepted", BAD_SIGNALS["a number"])
    counted = r'^smart_accounts_dropped_signals_total\{[^}]*signal="accepted"[^}]*\} 1$'
    async with httpx.AsyncClient(base_url=f"http://{address}") as http, asyncio.timeout(40):
        while not re.search(counted, (await http.get("/metrics")).text, re.MULTILINE):
            await asyncio.sleep(0.1)

    second = service.launch("worker.py", SMART_ACCOUNTS_METRICS_ADDRESS=address)
    assert await asyncio.to_thread(second.wait, 60) == 2
    named = "^bad settings: SMART_ACCOUNTS_METRICS_ADDRESS: .+$"
    assert re.search(named, service.log, re.MULTILINE)
