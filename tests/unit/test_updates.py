"""Errors of Temporal when it does not accept an update."""

from typing import Any, cast

import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.actions import ActionResult, Withdrawal
from smart_accounts.contract.messages import Status
from smart_accounts.errors import Rejected
from smart_accounts.temporal import updates

LIMIT = "The limit on the total number of distinct updates in this workflow has been reached."
DONE = ActionResult(status=Status.WITHDRAWN, message="Done.")


class Handle:
    """Fails once, as if Temporal did not accept the update."""

    def __init__(self, message: str) -> None:
        self._errors = [RPCError(message, RPCStatusCode.FAILED_PRECONDITION, b"")]

    async def execute_update(self, *_: Any, **__: Any) -> ActionResult:
        if self._errors:
            raise self._errors.pop()
        return DONE


async def withdraw(message: str) -> ActionResult:
    handle = cast(WorkflowHandle[Any, Any], Handle(message))
    return await updates.execute(handle, "withdraw", Withdrawal())


async def test_update_that_came_during_the_last_task_is_sent_again() -> None:
    assert await withdraw("Workflow task failed.") == DONE


async def test_update_beyond_the_limit_of_a_run_is_rejected() -> None:
    with pytest.raises(Rejected, match=r"^The request accepts no more changes\. An operator can"):
        await withdraw(LIMIT)
