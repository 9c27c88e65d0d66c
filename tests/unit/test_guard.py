"""Parts of the guard that a running request does not reach."""

from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    HandleUpdateInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from smart_accounts.contract.field_errors import FieldError
from smart_accounts.temporal.guard import GuardInterceptor, Unreadable


class Handler(WorkflowInboundInterceptor):
    def __init__(self) -> None:
        pass

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:  # noqa: A002 - Temporal's name
        return input.args[0].customer_email


async def test_update_that_became_unreadable_fails_alone_at_a_replay() -> None:
    """A replay runs no validator, and an AttributeError would fail the workflow task for ever."""
    error = FieldError(field="customer_email", message="must be text")
    unreadable = Unreadable((error,))
    update = HandleUpdateInput(id="1", update="replace_approver", args=[unreadable], headers={})
    options = WorkflowInterceptorClassInput(unsafe_extern_functions={})
    guard = GuardInterceptor().workflow_interceptor_class(options)(Handler())
    with pytest.raises(ApplicationError, match="customer_email: must be text") as failed:
        await guard.handle_update_handler(update)
    assert failed.value.type == "InvalidRequest"
