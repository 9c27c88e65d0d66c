"""The guard between Temporal and the workflow. No message can block or fail a request."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, NoReturn, Self, get_args

from pydantic import ValidationError
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import (
    ActivitySerializationContext,
    CompositePayloadConverter,
    DataConverter,
    SerializationContext,
)
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
from smart_accounts.contract.fields import rules_of_open_requests
from smart_accounts.contract.messages import Message, OwnMessage
from smart_accounts.contract.names import INVALID_REQUEST
from smart_accounts.settings import ClientSettings
from smart_accounts.temporal.codec import UNREADABLE, with_encryption
from smart_accounts.temporal.metrics import DROPPED_SIGNALS

MAX_PAYLOAD = 256 * 1024  # bytes; the largest valid request has about 50 KB


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of an argument that cannot be read, so that the guard can reject it."""

    errors: tuple[FieldError, ...]


_PARTS = tuple(PydanticPayloadConverter().converters.values())


class TolerantPayloadConverter(CompositePayloadConverter):
    """The pydantic converter, except that an unreadable payload becomes ``Unreadable``.

    Only the worker uses it. An exception here would fail the workflow task again and again,
    before the workflow or the guard could handle it. Clients need the exception.

    Between the workflow and its activities an exception is right. Nobody else writes there, and a
    result that cannot be read must not be taken for a result.

    It reads without the domain lists, because they change between releases and an open request
    must still be readable after ninety days.
    """

    def __init__(self, *, raises: bool = False) -> None:
        # The SDK makes a new converter for each step. All of them share these parts, because the
        # parts remember how to read each type.
        super().__init__(*_PARTS)
        self._raises = raises

    def with_context(self, context: SerializationContext) -> Self:
        is_between_workflow_and_activity = isinstance(context, ActivitySerializationContext)
        return type(self)(raises=True) if is_between_workflow_and_activity else self

    def from_payloads(
        self, payloads: Sequence[Payload], type_hints: list[type] | None = None
    ) -> list[Any]:
        values = [
            self._read(payload, type_hints[index] if type_hints else None)
            for index, payload in enumerate(payloads)
        ]
        # Payloads without a hint are the details of failures. Temporal's server writes some of them
        # in clear, for example when an activity is cancelled before its next try.
        if self._raises and type_hints and any(isinstance(value, Unreadable) for value in values):
            raise ValueError("the input or the result of an activity cannot be read")
        return values

    def _read(self, payload: Payload, hint: type | None) -> Any:
        if len(payload.data) > MAX_PAYLOAD:
            return _unreadable("is too large")
        if problem := UNREADABLE.get(payload.metadata.get("encoding", b"")):
            return _unreadable(problem)
        try:
            with rules_of_open_requests():
                value = super().from_payloads([payload], [hint] if hint else None)[0]
        except ValidationError as error:
            return Unreadable(tuple(field_errors(error)))
        except Exception:  # noqa: BLE001 - no payload may block the request
            return _unreadable("cannot be read")
        # Only a model or None may pass. Other encodings than json/plain ignore the hint:
        # binary/plain gives bytes.
        models = _models(hint)
        if models and not isinstance(value, models) and not (value is None and _may_be_none(hint)):
            return _unreadable("must be an object")
        return value


def _unreadable(problem: str) -> Unreadable:
    return Unreadable((FieldError(field="request", message=problem),))


def _models(hint: type | None) -> tuple[type, ...]:
    """Return the message classes in a type hint."""
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return tuple(each for each in options if isinstance(each, type) and issubclass(each, Message))


def _may_be_none(hint: type | None) -> bool:
    """Return True if None passes. The oldest histories have it as the result of some steps."""
    return isinstance(hint, UnionType) or (isinstance(hint, type) and issubclass(hint, OwnMessage))


class _WithoutExternalStorage(DataConverter):
    """Treats a reference to external storage as any other unknown payload.

    Without external storage, the SDK's converter raises an error for it. So one signal with a
    reference would fail the workflow task again and again. The methods are private to the SDK. If
    it renames them, ``test_payload_encodings.py`` fails.
    """

    async def _decode_reference_payload_sequence(
        self, payloads: Sequence[Payload]
    ) -> list[Payload]:
        return list(payloads)

    async def _external_retrieve_payload_sequence(
        self, payloads: Sequence[Payload]
    ) -> list[Payload]:
        return list(payloads)


def worker_data_converter(settings: ClientSettings) -> DataConverter:
    """Return the converter of a worker, and of a replayer of its histories."""
    converter = _WithoutExternalStorage(payload_converter_class=TolerantPayloadConverter)
    return with_encryption(converter, settings, for_worker=True)


def invalid_request(errors: Sequence[FieldError]) -> ApplicationError:
    """Return the error of an input that breaks a rule, with one message per field."""
    return ApplicationError(
        "; ".join(f"{error.field}: {error.message}" for error in errors),
        [error.model_dump() for error in errors],
        type=INVALID_REQUEST,
        non_retryable=True,
    )


def _reject(message: str, field: str = "request") -> NoReturn:
    raise invalid_request([FieldError(field=field, message=message)])


def _reject_unreadable(args: Sequence[Any]) -> None:
    for arg in args:
        if isinstance(arg, Unreadable):
            raise invalid_request(arg.errors)


class _Guard(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - Temporal's name
        if len(input.args) != 1:
            _reject(f"must be one object, not {len(input.args)} arguments")
        if input.args[0] is None:
            _reject("must be an object")
        _reject_unreadable(input.args)
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002 - Temporal's name
        try:
            if any(isinstance(arg, Unreadable) for arg in input.args):
                raise ValueError("unreadable argument")  # noqa: TRY301 - dropped below
            await super().handle_signal(input)
        except (AttributeError, TypeError, ValueError, FailureError) as error:
            # Log only the type, because the error's message may quote personal data.
            workflow.logger.warning("Dropped signal %s: %s", input.signal, type(error).__name__)
            DROPPED_SIGNALS.add(workflow.metric_meter(), signal=input.signal)

    def handle_update_validator(self, input: HandleUpdateInput) -> None:  # noqa: A002 - Temporal's name
        _reject_unreadable(input.args)
        try:
            super().handle_update_validator(input)
        except (AttributeError, TypeError):
            _reject(f"is not valid for {input.update}", "argument")

    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:  # noqa: A002 - Temporal's name
        # A replay runs no validator. An error of another type would fail the task for ever.
        _reject_unreadable(input.args)
        return await super().handle_update_handler(input)


class GuardInterceptor(Interceptor):
    """Drop bad signals, reject bad updates and fail bad starts."""

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - Temporal's signature
    ) -> type[WorkflowInboundInterceptor]:
        return _Guard
