"""What stands between Temporal and the workflow: no message may wedge or fail a request."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from pydantic import ValidationError
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from smart_accounts.contract.field_errors import FieldError, field_errors
from smart_accounts.contract.fields import without_lists
from smart_accounts.contract.names import INVALID_REQUEST

DROPPED_SIGNALS = "smart_accounts_dropped_signals"


@dataclass(frozen=True)
class Unreadable:
    """Stands in for an argument that could not be read, so that the guard can deal with it."""

    errors: tuple[FieldError, ...]


class TolerantPayloadConverter(PydanticPayloadConverter):
    """The pydantic converter, but an unreadable payload becomes ``Unreadable``.

    An exception here would fail the workflow task, over and over, before any code of ours
    runs. Only for the worker: clients want the exception. What changes with every release is
    left out here, so that a request is read in ninety days as it is today.
    """

    def from_payloads(
        self, payloads: Sequence[Payload], type_hints: list[type] | None = None
    ) -> list[Any]:
        return [
            self._read(payload, type_hints[index] if type_hints else None)
            for index, payload in enumerate(payloads)
        ]

    def _read(self, payload: Payload, hint: type | None) -> Any:
        try:
            with without_lists():
                return super().from_payloads([payload], [hint] if hint else None)[0]
        except ValidationError as error:
            return Unreadable(tuple(field_errors(error)))
        except Exception:  # noqa: BLE001 - whatever a payload does, it must not wedge the request
            return Unreadable((FieldError(field="request", message="cannot be read"),))


worker_data_converter = replace(
    pydantic_data_converter, payload_converter_class=TolerantPayloadConverter
)


def invalid_request(errors: Sequence[FieldError]) -> ApplicationError:
    """The failure of an input that breaks a rule: final, one message a field."""
    return ApplicationError(
        "; ".join(f"{error.field}: {error.message}" for error in errors),
        [error.model_dump() for error in errors],
        type=INVALID_REQUEST,
        non_retryable=True,
    )


def _refuse(message: str, field: str = "request") -> NoReturn:
    raise invalid_request([FieldError(field=field, message=message)])


class _Guard(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - Temporal's name
        if len(input.args) != 1:
            _refuse(f"must be one object, not {len(input.args)} arguments")
        if input.args[0] is None:
            _refuse("must be an object")
        if isinstance(input.args[0], Unreadable):
            raise invalid_request(input.args[0].errors)
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002 - Temporal's name
        try:
            if any(isinstance(arg, Unreadable) for arg in input.args):
                raise ValueError("unreadable argument")  # noqa: TRY301 - one way to drop a signal
            await super().handle_signal(input)
        except (AttributeError, TypeError, ValueError, FailureError) as error:
            # The error's text may quote what was sent; its type says enough.
            workflow.logger.warning("Dropped signal %s: %s", input.signal, type(error).__name__)
            counter = workflow.metric_meter().create_counter(
                DROPPED_SIGNALS, "Signals dropped because they could not be read"
            )
            counter.with_additional_attributes({"signal": input.signal}).add(1)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:  # noqa: A002 - Temporal's name
        for arg in input.args:
            if isinstance(arg, Unreadable):
                raise invalid_request(arg.errors)
        try:
            super().handle_update_validator(input)
        except (AttributeError, TypeError):
            _refuse(f"is not what {input.update} takes", "argument")


class GuardInterceptor(Interceptor):
    """Drops bad signals, refuses bad updates and fails bad starts, each in words."""

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - Temporal's signature
    ) -> type[WorkflowInboundInterceptor]:
        return _Guard
