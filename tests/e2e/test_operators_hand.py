"""What an operator does or gets wrong on Temporal: requests can still be answered and looked at."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.contrib.pydantic import pydantic_data_converter

from smart_accounts.contract.messages import SmartAccountRequest, Status, Withdrawal
from smart_accounts.contract.names import STATUS_ATTRIBUTE, TASK_QUEUE, WORKFLOW_TYPE, workflow_id
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.temporal.client import RequestClient


async def reset(service: Any, started: Any) -> None:
    done = await service.server.cli(
        *("workflow", "reset", "--workflow-id", started.workflow_id, "--reason", "a bad release"),
        *("--type", "FirstWorkflowTask"),
    )
    assert done.returncode == 0, done.stderr


async def test_reset_request_is_answered_by_the_link_it_had(
    service: Any, fresh: dict[str, Any], link_in: Any, ask_service: Any
) -> None:
    await service.worker()
    await service.web()
    started = await service.start(fresh)
    await service.until(started, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    await reset(service, started)
    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.post(link, data={"agree": "yes"})).status_code == 303
    newest = service.client.get_workflow_handle(started.workflow_id)
    async with asyncio.timeout(40):
        assert (await newest.result())["status"] == "active"
    assert (await newest.describe()).run_id != started.request_id
    assert await ask_service("SELECT id, status FROM requests") == [
        {"id": started.request_id, "status": "active"}
    ]
    assert sorted(service.mail.kinds()) == sorted(
        ("activation", "request-received", "activated", "welcome", "access-granted")
    )


async def test_requester_acts_on_a_reset_request_but_not_on_the_next(
    service: Any, fresh: dict[str, Any]
) -> None:
    await service.worker()
    started = await service.start(fresh)
    await service.until(started, Status.PENDING, sent=2)
    await reset(service, started)
    requests: RequestClient = service.requests()
    run = {"run_id": started.request_id}
    withdrawn = await requests.withdraw(started.workflow_id, Withdrawal(), **run)
    assert withdrawn.status == Status.WITHDRAWN
    await service.client.get_workflow_handle(started.workflow_id).result()
    again = await service.start(fresh)
    await service.until(again, Status.PENDING, sent=2)
    with pytest.raises(NotFound):
        await requests.accept(started.workflow_id, **run)
    assert (await service.handle(again).describe()).status == WorkflowExecutionStatus.RUNNING


async def in_namespace(dev_server: Any, name: str) -> RequestClient:
    return RequestClient(
        await Client.connect(
            dev_server.address, namespace=name, data_converter=pydantic_data_converter
        )
    )


async def test_missing_namespace_is_an_outage(dev_server: Any, fresh: dict[str, Any]) -> None:
    requests = await in_namespace(dev_server, "nowhere")
    with pytest.raises(Unavailable):
        await requests.check()
    with pytest.raises(Unavailable):
        await requests.start(SmartAccountRequest.model_validate(fresh))


async def test_what_temporal_refuses_is_an_outage(dev_server: Any, fresh: dict[str, Any]) -> None:
    await dev_server.cli("operator", "namespace", "create", "without-attributes")
    requests = await in_namespace(dev_server, "without-attributes")
    with pytest.raises(Unavailable, match="Temporal answered INVALID_ARGUMENT"):
        await requests.start(SmartAccountRequest.model_validate(fresh))


async def test_foreign_status_spoils_no_list(
    service: Any, temporal: Client, fresh: dict[str, Any]
) -> None:
    status = SearchAttributeKey.for_keyword(STATUS_ATTRIBUTE)
    handle: Any = await temporal.start_workflow(
        WORKFLOW_TYPE,
        fresh,
        id=workflow_id(fresh["account_domain"]),
        task_queue=TASK_QUEUE,
        search_attributes=TypedSearchAttributes([SearchAttributePair(status, "open")]),
    )
    requests = RequestClient(temporal)
    async with asyncio.timeout(40):  # Temporal's visibility is a moment behind
        while not (
            found := [each async for each in requests.list() if each.workflow_id == handle.id]
        ):
            await asyncio.sleep(0.1)
    assert found[0].status is None
    await service.worker()
    await service.mail.wait_for("activation")
    described = json.loads(
        (await service.server.cli("workflow", "describe", "-w", handle.id, "-o", "json")).stdout
    )
    shown = described["workflowExecutionInfo"]["searchAttributes"]["indexedFields"]
    assert set(shown) >= {"SmartAccountDeadline", "SmartAccountDomain", "SmartAccountStatus"}
