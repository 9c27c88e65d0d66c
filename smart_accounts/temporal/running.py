"""Open requests, read from the start of their history."""

from collections.abc import Sequence
from typing import TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowExecutionStatus

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.errors import NotFound
from smart_accounts.temporal.errors import NOT_OPEN, RPC_TIMEOUT, time_limit
from smart_accounts.temporal.memo import owner_in
from smart_accounts.temporal.records import RunningRequest

Input = TypeVar("Input")


async def find(
    client: Client, workflow_id: str, run_id: str | None, only_of: Identity | None
) -> RunningRequest:
    """Return an open request, even if no worker has seen it yet.

    Raises:
        NotFound: No request is open under this id, or it is not that of ``only_of``. Both cost one
            call, so that the response time does not show that another partner has a request.
    """
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    async with time_limit(RPC_TIMEOUT):
        described = await handle.describe(rpc_timeout=RPC_TIMEOUT)
        owner = await owner_in(described)
        if described.status != WorkflowExecutionStatus.RUNNING or only_of not in (None, owner):
            raise NotFound(NOT_OPEN)
        first = await anext(handle.fetch_history_events(page_size=1, rpc_timeout=RPC_TIMEOUT))
    started = first.workflow_execution_started_event_attributes
    request = await start_input(client, started.input.payloads, SmartAccountRequest)
    if request is None:
        raise NotFound(NOT_OPEN)
    return RunningRequest(
        handle.id, started.first_execution_run_id, described.start_time, request, owner
    )


async def start_input(
    client: Client, payloads: Sequence[Payload], model: type[Input]
) -> Input | None:
    """Return the start input, or ``None`` if it is not one valid message of this kind."""
    types: list[type] = [model] * len(payloads)
    try:
        [given] = await client.data_converter.decode(payloads, types)
    except (ValueError, TypeError, KeyError, RuntimeError):
        return None
    return given if isinstance(given, model) else None
