"""Updates of a request: send one, and wait for its result."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.actions import ActionResult
from smart_accounts.contract.messages import Message
from smart_accounts.errors import Rejected
from smart_accounts.temporal.errors import time_limit

UPDATE_TIMEOUT = timedelta(seconds=10)  # includes a worker and the database
_NO_RESULT = "No response yet. The change may still be made: look at it before you try again."

_LIMIT_REACHED = "limit on the total number of distinct updates"  # in Temporal's message


async def execute(handle: WorkflowHandle[Any, Any], name: str, message: Message) -> ActionResult:
    """Send an update and return its result. Raises what ``time_limit`` and Temporal raise.

    Raises:
        Rejected: The run has had as many updates as Temporal accepts.
    """
    async with time_limit(UPDATE_TIMEOUT, _NO_RESULT):
        while True:
            try:
                result: ActionResult = await handle.execute_update(
                    name, message, result_type=ActionResult, rpc_timeout=UPDATE_TIMEOUT
                )
            except RPCError as error:
                if _LIMIT_REACHED in error.message:
                    raise Rejected(
                        "The request accepts no more changes. An operator can still withdraw it, by"
                        " cancelling its workflow in Temporal's Web UI."
                    ) from error
                # The update came while the request's last task ran. Temporal repeats that task and
                # did not accept the update.
                if error.status != RPCStatusCode.FAILED_PRECONDITION:
                    raise
                await asyncio.sleep(0.1)
            else:
                return result
