"""No single bad message wedges a request; what a foreign client does with the plain CLI."""

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

JSON = {"encoding": b"json/plain"}


def raw(*bodies: str | None, **metadata: bytes) -> Payloads:
    return Payloads(
        payloads=[
            Payload(metadata={"encoding": b"binary/null"})
            if body is None
            else Payload(metadata=metadata or JSON, data=body.encode())
            for body in bodies
        ]
    )


BAD_SIGNALS: dict[str, Payloads] = {
    "malformed JSON": raw('{"accepted_by": '),
    "not JSON at all": raw("\x00\xff"),
    "a number": raw("3"),
    "true": raw("true"),
    "text": raw('"yes"'),
    "a list": raw("[]"),
    "a field of the wrong type": raw('{"accepted_by": 5}'),
    "an unknown field": raw('{"agree": true}'),
    "an endless name": raw(json.dumps({"accepted_by": "x" * 5000})),
    "two arguments": raw("{}", "{}"),
    "two malformed arguments": raw("{", "{"),
    "three nulls": raw(None, None, None),
    "an unknown encoding": raw("{}", encoding=b"json/protobuf-of-mine"),
    "encrypted with a key we have not": raw("garbage", encoding=b"binary/encrypted"),
    "no encoding": Payloads(payloads=[Payload(data=b"{}")]),
}


async def send(service: Any, started: Any, name: str, payloads: Payloads) -> None:
    await service.client.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=started.workflow_id),
            signal_name=name,
            input=payloads,
        )
    )


async def failed_tasks(service: Any, started: Any) -> int:
    events = (await service.handle(started).fetch_history()).events
    return sum(event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED for event in events)


async def test_bad_signals_then_a_good_one(service: Any, fresh: dict[str, Any]) -> None:
    await service.worker()
    started = await service.start(fresh)
    await service.until(started, Status.PENDING, sent=2)
    for payloads in BAD_SIGNALS.values():
        for name in ("accepted", "declined", "bounced", "no-such-signal"):
            await send(service, started, name, payloads)
    for payloads in (Payloads(), raw(None), raw("null"), raw("{}")):
        await send(service, started, "bounced", payloads)
    await send(service, started, "declined", raw('{"reason": "\\u202e"}'))
    await asyncio.sleep(0.5)
    still = await service.until(started, Status.PENDING)
    assert still.decided_at is None
    assert await failed_tasks(service, started) == 0
    assert service.log.count("Dropped signal accepted") == len(BAD_SIGNALS)
    assert service.log.count("Dropped signal declined") == len(BAD_SIGNALS) + 1
    assert "Traceback" not in service.log
    await service.requests().accept(started.workflow_id)
    await service.until(started, Status.ACTIVE)
    assert await failed_tasks(service, started) == 0


@pytest.mark.parametrize("payloads", [Payloads(), raw(None), raw("{}"), raw("null")])
async def test_bare_acceptance_counts(
    service: Any, fresh: dict[str, Any], payloads: Payloads
) -> None:
    await service.worker()
    started = await service.start(fresh)
    await service.until(started, Status.PENDING)
    await send(service, started, "accepted", payloads)
    await service.until(started, Status.ACTIVE)


GOOD = "the example"
BAD_STARTS: dict[str, tuple[Payloads | None, str]] = {
    "no argument": (None, "request: "),
    "null": (raw(None), "request: "),
    "JSON null": (raw("null"), "request: "),
    "two arguments": (raw("{}", "{}"), "request: must be one object, not 2 arguments"),
    "two malformed arguments": (raw("{", "{"), "request: must be one object"),
    "malformed JSON": (raw('{"account_name": '), "request: is not valid JSON"),
    "a list": (raw("[]"), "request: must be an object"),
    "text": (raw('"acme.example"'), "request: must be an object"),
    "an empty object": (raw("{}"), "account_name: is required"),
    "an unknown encoding": (raw("{}", encoding=b"x/y"), "request: cannot be read"),
}


async def start_raw(service: Any, workflow_id: str, payloads: Payloads | None) -> str:
    answer = await service.client.workflow_service.start_workflow_execution(
        StartWorkflowExecutionRequest(
            namespace="default",
            workflow_id=workflow_id,
            request_id=workflow_id,
            workflow_type=WorkflowType(name="SmartAccountRequestWorkflow"),
            task_queue=TaskQueue(name="smart-account-requests"),
            input=payloads,
        )
    )
    run_id: str = answer.run_id
    return run_id


async def failure_of(service: Any, workflow_id: str) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as failure:
        async with asyncio.timeout(40):
            await service.client.get_workflow_handle(workflow_id).result()
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause


async def test_bad_starts_fail_and_none_is_wedged(service: Any, fresh: dict[str, Any]) -> None:
    await service.worker()
    for number, (name, (payloads, message)) in enumerate(BAD_STARTS.items()):
        workflow_id = f"smart-account-bad-{number}.example"
        await start_raw(service, workflow_id, payloads)
        cause = await failure_of(service, workflow_id)
        assert cause.type == "InvalidRequest", name
        assert cause.non_retryable
        assert message in cause.message, name
    assert not service.mail.mails


async def test_bad_fields_fail_with_one_message_each_and_no_value(
    service: Any, fresh: dict[str, Any]
) -> None:
    await service.worker()
    secret = "swordfish@@"
    body = fresh | {"customer_email": secret, "account_name": "a\nb", "acceptance_window": "P3M"}
    workflow_id = f"smart-account-{fresh['account_domain']}"
    await start_raw(service, workflow_id, raw(json.dumps(body)))
    cause = await failure_of(service, workflow_id)
    assert [line.partition(":")[0] for line in cause.message.split("; ")] == [
        "account_name",
        "customer_email",
        "acceptance_window",
    ]
    history = (await service.client.get_workflow_handle(workflow_id).fetch_history()).to_json()
    assert "swordfish" not in history.replace(
        json.loads(history)["events"][0]["workflowExecutionStartedEventAttributes"]["input"][
            "payloads"
        ][0]["data"],
        "",
    )
    assert "swordfish" not in service.log


async def test_domain_on_a_list_fails_and_is_not_indexed(
    service: Any, fresh: dict[str, Any]
) -> None:
    await service.worker()
    workflow_id = "smart-account-gmail.com"
    await start_raw(service, workflow_id, raw(json.dumps(fresh | {"account_domain": "gmail.com"})))
    cause = await failure_of(service, workflow_id)
    assert cause.type == "InvalidRequest"
    assert cause.message.startswith("account_domain: ")
    assert "free-mail" in cause.message
    described = await service.client.get_workflow_handle(workflow_id).describe()
    assert "SmartAccountStatus" not in {pair.key.name for pair in described.typed_search_attributes}
    assert not service.mail.mails


async def test_start_under_another_id_fails(service: Any, fresh: dict[str, Any]) -> None:
    await service.worker()
    await start_raw(service, "my-own-id", raw(json.dumps(fresh)))
    cause = await failure_of(service, "my-own-id")
    assert cause.type == "InvalidRequest"
    assert "workflow id" in cause.message


async def test_foreign_client_with_plain_json(service: Any, fresh: dict[str, Any]) -> None:
    await service.worker()
    workflow_id = f"smart-account-{fresh['account_domain']}"
    cli = service.server.cli
    start = (
        *("workflow", "start", "--type", "SmartAccountRequestWorkflow"),
        *("--task-queue", "smart-account-requests", "--workflow-id", workflow_id),
        *("--input", json.dumps(fresh)),
    )
    assert (await cli(*start)).returncode == 0
    await service.mail.wait_for("activation", fresh["customer_email"])
    assert (await cli(*start)).returncode == 0, "answers the run that is there"

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
    result = await service.client.get_workflow_handle(workflow_id).result()
    assert result["status"] == "active"
    assert len(service.mail.kinds()) == 5


async def test_cancel_and_terminate_from_outside(service: Any, fresh: dict[str, Any]) -> None:
    await service.worker()
    cli = service.server.cli
    for end, shown in (("cancel", "COMPLETED"), ("terminate", "TERMINATED")):
        started = await service.start(fresh)
        await service.until(started, Status.PENDING, sent=2)
        await cli("workflow", end, "--workflow-id", started.workflow_id)
        async with asyncio.timeout(40):
            while True:
                found = (await service.handle(started).describe()).status
                if found == WorkflowExecutionStatus[shown]:
                    break
                await asyncio.sleep(0.05)
    again = await service.start(fresh)
    await service.until(again, Status.PENDING, sent=2)


async def test_no_personal_data_in_what_the_web_ui_lists(
    service: Any, fresh: dict[str, Any]
) -> None:
    await service.worker()
    started = await service.start(fresh)
    await service.until(started, Status.PENDING, sent=2)
    handle = service.handle(started)
    described = await handle.describe()
    assert await described.static_summary() == f"Smart Account for {fresh['account_domain']}"
    details = await handle.query("__temporal_workflow_metadata")
    words = details.current_details
    assert "Waits for the customer's answer until" in words
    assert fresh["account_domain"] in words
    shown = [words, str(described.typed_search_attributes), started.workflow_id]
    events = (await handle.fetch_history()).events
    shown.extend(event.user_metadata.summary.data.decode() for event in events)
    assert any("Reminder 20" in text for text in shown)
    assert any("Email: activation, request-received" in text for text in shown)
    assert not any("@" in text for text in shown)


async def test_dropped_signals_are_counted_where_operators_look(
    service: Any, fresh: dict[str, Any], free_port: Any
) -> None:
    address = f"127.0.0.1:{free_port()}"
    await service.worker(SMART_ACCOUNTS_METRICS_ADDRESS=address)
    started = await service.start(fresh)
    await service.until(started, Status.PENDING)
    await send(service, started, "accepted", BAD_SIGNALS["a number"])
    counted = r'^smart_accounts_dropped_signals\{[^}]*signal="accepted"[^}]*\} 1$'
    async with httpx.AsyncClient(base_url=f"http://{address}") as http, asyncio.timeout(40):
        while not re.search(counted, (await http.get("/metrics")).text, re.MULTILINE):
            await asyncio.sleep(0.1)

    second = service.launch("worker.py", SMART_ACCOUNTS_METRICS_ADDRESS=address)
    assert await asyncio.to_thread(second.wait, 60) == 2
    named = "^bad settings: SMART_ACCOUNTS_METRICS_ADDRESS: .+$"
    assert re.search(named, service.log, re.MULTILINE)
