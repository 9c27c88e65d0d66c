"""Lists of requests, from Temporal's visibility store."""

from collections.abc import AsyncIterator

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import STATUS, TASK_QUEUE, WORKFLOW_TYPE
from smart_accounts.temporal.errors import QUERY_TIMEOUT, translate_errors
from smart_accounts.temporal.records import GONE, Listed

OPEN_EXECUTIONS = f"TaskQueue = '{TASK_QUEUE}' AND ExecutionStatus = 'Running'"
"""The list filter of all our open workflows: requests, their last emails, and sweeps."""


async def with_status(client: Client, status: Status | None) -> AsyncIterator[Listed]:
    query = f"WorkflowType = '{WORKFLOW_TYPE}'"
    if status:
        query += f" AND {STATUS.name} = '{status}'"
    with translate_errors():
        async for execution in client.list_workflows(query, rpc_timeout=QUERY_TIMEOUT):
            listed = await Listed.of(execution)
            is_final = listed.status is not None and listed.status.is_final
            # A run that was terminated or reset while its request was open keeps its last status.
            if is_final or execution.status not in GONE:
                yield listed


async def open_requests(client: Client, query: str) -> list[Listed]:
    """Return the open requests that match a list filter, newest first.

    Raises:
        BadInput: The filter is empty, or Temporal cannot read it.
    """
    if not query.strip():  # otherwise an unset variable in a script would select every request
        raise _bad_filter("must not be empty")
    own = f"({query}) AND WorkflowType = '{WORKFLOW_TYPE}' AND ExecutionStatus = 'Running'"
    with translate_errors():
        try:
            return [
                await Listed.of(each)
                async for each in client.list_workflows(own, rpc_timeout=QUERY_TIMEOUT)
            ]
        except RPCError as error:
            if error.status != RPCStatusCode.INVALID_ARGUMENT:
                raise
            raise _bad_filter(f"is not a list filter of Temporal: {error.message}") from None


def _bad_filter(message: str) -> BadInput:
    return BadInput([FieldError(field="query", message=message)])
