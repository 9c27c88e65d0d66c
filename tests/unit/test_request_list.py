"""Which runs ``starter.py list`` shows as requests, and with which id."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import RESTARTS, STATUS
from smart_accounts.temporal import listing
from smart_accounts.temporal.codec import NOT_ENCRYPTED, UnknownKey, UnreadablePayload
from smart_accounts.temporal.records import GONE, Listed


async def listed(
    execution: WorkflowExecutionStatus, status: Status | None, restarts: str | Exception | None
) -> list[Listed]:
    async def memo_value(name: str, default: None) -> str | None:
        if isinstance(restarts, Exception):
            raise restarts
        return {RESTARTS: restarts}.get(name, default)

    run = SimpleNamespace(
        id="smart-account-acme.example",
        run_id="run",
        raw_info=SimpleNamespace(first_run_id=""),  # as in Temporal's lists
        status=execution,
        start_time=datetime.now(UTC),
        typed_search_attributes={STATUS: status},
        memo_value=memo_value,
    )

    async def list_workflows(*_: Any, **__: Any) -> AsyncIterator[Any]:
        yield run

    client = cast(Client, SimpleNamespace(list_workflows=list_workflows))
    return [each async for each in listing.with_status(client, None)]


@pytest.mark.parametrize("status", [None, Status.PENDING, Status.ACTIVE])
@pytest.mark.parametrize("execution", list(WorkflowExecutionStatus))
async def test_run_that_was_stopped_has_no_stale_status(
    execution: WorkflowExecutionStatus, status: Status | None
) -> None:
    is_listed = execution not in GONE or status is Status.ACTIVE
    assert [each.status for each in await listed(execution, status, None)] == [status] * is_listed


@pytest.mark.parametrize(
    ("restarts", "request_id"),
    [
        (None, "run"),
        ("first", "first"),
        # Any client can set the memo, and this must not hide the other requests.
        (UnknownKey("0123456789abcdef"), "run"),
        (UnreadablePayload(NOT_ENCRYPTED), "run"),
    ],
    ids=str,
)
async def test_restarted_run_has_the_id_of_its_request(
    restarts: str | Exception | None, request_id: str
) -> None:
    [found] = await listed(WorkflowExecutionStatus.RUNNING, Status.PENDING, restarts)
    assert found.request_id == request_id
