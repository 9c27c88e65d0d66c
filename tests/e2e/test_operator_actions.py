"""Actions and mistakes of an operator in Temporal: requests stay readable and open to answers."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from smart_accounts.contract.actions import NewApprover, Withdrawal
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.names import STATUS, TASK_QUEUE, WORKFLOW_TYPE, workflow_id
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.records import Started
from tests.support.mail_server import LinkIn
from tests.support.patient_client import wait_for_busy_temporal
from tests.support.service import Service
from tests.support.store import Query
from tests.support.temporal_server import DevServer, connect


async def reset(service: Service, started: Started) -> None:
    done = await service.server.cli(
        "workflow",
        "reset",
        f"--workflow-id={started.workflow_id}",
        "--type=FirstWorkflowTask",
        "--reason=a bad release",
    )
    assert done.returncode == 0, done.stderr


async def test_link_works_after_a_reset(
    service: Service, new_request: dict[str, Any], link_in: LinkIn, query_service: Query
) -> None:
    await service.start_worker()
    await service.start_web()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    await reset(service, started)
    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.post(link, data={"agree": "yes"})).status_code == 303
    newest = service.temporal.get_workflow_handle(started.workflow_id)
    async with asyncio.timeout(40):
        assert (await newest.result())["status"] == "active"
    assert (await newest.describe()).run_id != started.request_id
    assert await query_service("SELECT id, status FROM requests") == [
        {"id": started.request_id, "status": "active"}
    ]
    assert sorted(service.mail.kinds()) == sorted(
        ("activation", "request-received", "activated", "welcome", "access-granted")
    )


async def test_reset_keeps_the_answer_and_the_approver(
    service: Service, new_request: dict[str, Any], link_in: LinkIn, query_service: Query
) -> None:
    worker = await service.start_worker()
    await service.start_web()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    new = NewApprover(customer_email=f"cy@{new_request['account_domain']}")
    await service.requests().replace_approver(started.workflow_id, new)
    link = link_in(await service.mail.wait_for("activation", new.customer_email))
    await service.kill(worker)
    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.post(link, data={"agree": "yes"})).status_code == 303
    await reset(service, started)
    await service.start_worker()
    newest = service.temporal.get_workflow_handle(started.workflow_id)
    async with asyncio.timeout(60):
        assert (await newest.result())["status"] == "active"
    roles = await query_service("SELECT email FROM account_users WHERE role <> 'user'")
    assert roles == [{"email": new.customer_email}]
    assert service.mail.kinds(new.customer_email) == ["activation", "welcome"]


async def test_action_reaches_a_reset_request_but_not_the_next_one(
    service: Service, new_request: dict[str, Any]
) -> None:
    await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    await reset(service, started)
    requests: RequestClient = service.requests()
    run_id = started.request_id
    withdrawn = await requests.withdraw(started.workflow_id, Withdrawal(), run_id=run_id)
    assert withdrawn.status == Status.WITHDRAWN
    await service.temporal.get_workflow_handle(started.workflow_id).result()
    again = await service.start(new_request)
    await service.wait_for(again, Status.PENDING, sent=2)
    with pytest.raises(NotFound):
        await requests.accept(started.workflow_id, run_id=run_id)
    assert (await service.handle(again).describe()).status == WorkflowExecutionStatus.RUNNING


async def client_for_namespace(dev_server: DevServer, name: str) -> RequestClient:
    return RequestClient(await connect(dev_server, name))


async def test_missing_namespace_is_unavailable(
    dev_server: DevServer, new_request: dict[str, Any]
) -> None:
    requests = await client_for_namespace(dev_server, "nowhere")
    with pytest.raises(Unavailable):
        await requests.check()
    with pytest.raises(Unavailable):
        await requests.start(SmartAccountRequest.model_validate(new_request))


async def test_rejection_by_temporal_is_unavailable(
    dev_server: DevServer, new_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_busy_temporal(monkeypatch)
    await dev_server.cli("operator", "namespace", "create", "without-attributes")
    requests = await client_for_namespace(dev_server, "without-attributes")
    with pytest.raises(Unavailable, match="Temporal rejected the call with INVALID_ARGUMENT"):
        await requests.start(SmartAccountRequest.model_validate(new_request))


async def test_unknown_status_of_another_client_is_listed(
    service: Service, temporal: Client, new_request: dict[str, Any]
) -> None:
    handle: Any = await temporal.start_workflow(
        WORKFLOW_TYPE,
        new_request,
        id=workflow_id(new_request["account_domain"]),
        task_queue=TASK_QUEUE,
        search_attributes=TypedSearchAttributes([SearchAttributePair(STATUS, "open")]),
    )
    requests = RequestClient(temporal)
    async with asyncio.timeout(40):  # Temporal's visibility store is a little behind
        while not (
            found := [each async for each in requests.list() if each.workflow_id == handle.id]
        ):
            await asyncio.sleep(0.1)
    assert found[0].status is None
    await service.start_worker()
    await service.mail.wait_for("activation")
    described = json.loads(
        (await service.server.cli("workflow", "describe", "-w", handle.id, "-o", "json")).stdout
    )
    shown = described["workflowExecutionInfo"]["searchAttributes"]["indexedFields"]
    assert set(shown) >= {"SmartAccountDeadline", "SmartAccountDomain", "SmartAccountStatus"}
