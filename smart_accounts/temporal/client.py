"""What starter and web use to talk to Temporal: the only place that knows handles."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError, FailureError, WorkflowAlreadyStartedError

from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import (
    Acceptance,
    ActionResult,
    Bounce,
    Decline,
    NewApprover,
    RequestStatus,
    SmartAccountRequest,
    Status,
    Withdrawal,
)
from smart_accounts.contract.names import (
    DEADLINE_ATTRIBUTE,
    DOMAIN_ATTRIBUTE,
    IDEMPOTENCY_KEY,
    INVALID_REQUEST,
    STATUS_ATTRIBUTE,
    TASK_QUEUE,
    WORKFLOW_TYPE,
    workflow_id,
)
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.temporal.connection import NOT_OPEN, connect, plain_errors, within

RPC_TIMEOUT = timedelta(seconds=2)
QUERY_TIMEOUT = timedelta(seconds=5)  # a worker has to answer
UPDATE_TIMEOUT = timedelta(seconds=10)  # and the database too

STATUS = SearchAttributeKey.for_keyword(STATUS_ATTRIBUTE)
DOMAIN = SearchAttributeKey.for_keyword(DOMAIN_ATTRIBUTE)
DEADLINE = SearchAttributeKey.for_datetime(DEADLINE_ATTRIBUTE)

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)
_NO_WORKER = "No answer yet. It may still be done: look at the request before you try again."


@dataclass(frozen=True)
class Started:
    """A request that Temporal has; ``request_id`` is the run id.

    ``requested_at`` is ours where we have just started it, a moment before Temporal's.
    """

    workflow_id: str
    request_id: str
    requested_at: datetime


@dataclass(frozen=True)
class RunningRequest(Started):
    """An open request as it was started, from Temporal alone: a worker may not have seen it."""

    request: SmartAccountRequest

    @property
    def deadline(self) -> datetime:
        return self.requested_at + self.request.acceptance_window


@dataclass(frozen=True)
class Listed:
    """One line of the list, from Temporal's visibility."""

    workflow_id: str
    request_id: str
    status: Status | None
    account_domain: str | None
    deadline: datetime | None
    requested_at: datetime


class RequestClient:
    """Starts, answers and looks at requests.

    Every method raises ``Unavailable`` when Temporal does not answer in time.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    async def connect(cls, *, lazy: bool = False) -> Self:
        return cls(await connect(lazy=lazy))

    async def check(self) -> None:
        async with within(RPC_TIMEOUT):
            await self._client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=self._client.namespace), timeout=RPC_TIMEOUT
            )

    async def start(self, request: SmartAccountRequest, *, key: str | None = None) -> Started:
        """Start a request; one that was started under the same key is answered again.

        Raises:
            Rejected: another one for this domain is open, or still sending its closing emails.
        """
        domain, now = request.account_domain, datetime.now(UTC)
        attributes: list[SearchAttributePair[Any]] = [
            SearchAttributePair(STATUS, Status.PENDING.value),
            SearchAttributePair(DOMAIN, domain),
            SearchAttributePair(DEADLINE, now + request.acceptance_window),
        ]
        try:
            async with within(RPC_TIMEOUT):
                handle: WorkflowHandle[Any, Any] = await self._client.start_workflow(
                    WORKFLOW_TYPE,
                    request,
                    id=workflow_id(domain),
                    task_queue=TASK_QUEUE,
                    search_attributes=TypedSearchAttributes(attributes),
                    static_summary=f"Smart Account for {domain}",
                    memo={IDEMPOTENCY_KEY: key} if key else None,
                    rpc_timeout=RPC_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            return await self._started_under(key, domain)
        assert handle.first_execution_run_id
        return Started(handle.id, handle.first_execution_run_id, now)

    async def _started_under(self, key: str | None, domain: str) -> Started:
        handle = self._client.get_workflow_handle(workflow_id(domain))
        try:
            async with within(RPC_TIMEOUT):
                described = await handle.describe(rpc_timeout=RPC_TIMEOUT)
                its_key = await described.memo_value(IDEMPOTENCY_KEY, None)
        except NotFound:  # it has closed meanwhile
            raise Rejected(_why_not(domain, None)) from None
        if key and its_key == key:
            return Started(handle.id, described.run_id, described.start_time)
        # Asking the request itself would take a worker.
        raise Rejected(_why_not(domain, described.typed_search_attributes.get(STATUS)))

    async def begun(self, workflow_id: str, *, run_id: str | None = None) -> RunningRequest:
        """An open request, also one that no worker has seen yet.

        Raises:
            NotFound: no request is open there.
        """
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        async with within(RPC_TIMEOUT):
            described = await handle.describe(rpc_timeout=RPC_TIMEOUT)
            first = await anext(handle.fetch_history_events(page_size=1, rpc_timeout=RPC_TIMEOUT))
        started = first.workflow_execution_started_event_attributes
        request = await self._start_input(started.input.payloads)
        if request is None or described.status != WorkflowExecutionStatus.RUNNING:
            raise NotFound(NOT_OPEN)
        return RunningRequest(
            handle.id, started.first_execution_run_id, described.start_time, request=request
        )

    async def _start_input(self, given: Sequence[Payload]) -> SmartAccountRequest | None:
        """The request; ``None`` where the input breaks a rule, whatever it is."""
        types: list[type] = [SmartAccountRequest] * len(given)
        request: SmartAccountRequest | None
        try:
            [request] = await self._client.data_converter.decode(given, types)
        except (ValueError, TypeError, KeyError, RuntimeError):
            return None
        return request  # null is none

    async def outcome(self, started: Started) -> RequestStatus | None:
        """The first status a worker gives; ``None`` if none answers yet, which loses nothing.

        A query during the first workflow task would cut it in two, which costs three events;
        waiting for its end costs none.
        """
        handle = self._client.get_workflow_handle(started.workflow_id, run_id=started.request_id)
        try:
            async with within(QUERY_TIMEOUT):
                async for event in handle.fetch_history_events(wait_new_event=True):
                    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                        break
            return await self.status(started.workflow_id, run_id=started.request_id)
        except Unavailable:
            return None

    async def status(self, workflow_id: str, *, run_id: str | None = None) -> RequestStatus:
        """Where a request stands; the newest of that workflow id without ``run_id``.

        Raises:
            NotFound: there is no such request.
        """
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            async with within(QUERY_TIMEOUT):
                status: RequestStatus = await handle.query(
                    "status", result_type=RequestStatus, rpc_timeout=QUERY_TIMEOUT
                )
                return status
        except WorkflowQueryFailedError:
            raise NotFound("There is no request: its start input broke a rule.") from None

    async def list(self, status: Status | None = None) -> AsyncIterator[Listed]:
        """All requests, newest first, as Temporal's visibility has them (seconds behind)."""
        query = f"WorkflowType = '{WORKFLOW_TYPE}'"
        if status:
            query += f" AND {STATUS_ATTRIBUTE} = '{status}'"
        with plain_errors():
            async for execution in self._client.list_workflows(query, rpc_timeout=QUERY_TIMEOUT):
                yield _listed(execution)

    async def accept(
        self, workflow_id: str, *, run_id: str | None = None, accepted_by: str | None = None
    ) -> None:
        """Tell a request that the customer accepts.

        Raises:
            NotFound: no request is open there.
        """
        await self._signal(workflow_id, run_id, "accepted", Acceptance(accepted_by=accepted_by))

    async def decline(
        self, workflow_id: str, *, run_id: str | None = None, reason: str | None = None
    ) -> None:
        """Tell a request that the customer declines.

        Raises:
            NotFound: no request is open there.
        """
        await self._signal(workflow_id, run_id, "declined", Decline(reason=reason))

    async def report_bounce(self, workflow_id: str, *, run_id: str, bounce: Bounce) -> None:
        """Tell a request that one of its emails came back.

        Raises:
            NotFound: it has ended.
        """
        await self._signal(workflow_id, run_id, "bounced", bounce)

    async def resend(self, workflow_id: str, *, run_id: str | None = None) -> ActionResult:
        """Have the activation email sent again, with a new link.

        Raises:
            Rejected: why it can't be, as for the other actions.
            NotFound: no request is open there.
        """
        return await self._update(workflow_id, run_id, "resend_activation_email", [])

    async def replace_approver(
        self, workflow_id: str, new: NewApprover, *, run_id: str | None = None
    ) -> ActionResult:
        """Ask another person of the customer's instead.

        Raises:
            BadInput: the address breaks a rule of this request.
        """
        return await self._update(workflow_id, run_id, "replace_approver", [new])

    async def withdraw(
        self, workflow_id: str, withdrawal: Withdrawal, *, run_id: str | None = None
    ) -> ActionResult:
        """Take the request back."""
        return await self._update(workflow_id, run_id, "withdraw", [withdrawal])

    async def _update(
        self, workflow_id: str, run_id: str | None, name: str, args: Sequence[Any]
    ) -> ActionResult:
        async def update(handle: WorkflowHandle[Any, Any]) -> ActionResult:
            async with within(UPDATE_TIMEOUT, _NO_WORKER):
                answer: ActionResult = await handle.execute_update(
                    name, args=args, result_type=ActionResult, rpc_timeout=UPDATE_TIMEOUT
                )
                return answer

        try:
            return await self._on_open_run(workflow_id, run_id, update)
        except WorkflowUpdateFailedError as error:
            raise _refusal(error.cause) from None

    async def _signal(self, workflow_id: str, run_id: str | None, name: str, message: Any) -> None:
        async def signal(handle: WorkflowHandle[Any, Any]) -> None:
            async with within(RPC_TIMEOUT):
                await handle.signal(name, message, rpc_timeout=RPC_TIMEOUT)

        await self._on_open_run(workflow_id, run_id, signal)

    async def _on_open_run(
        self,
        workflow_id: str,
        run_id: str | None,
        call: Callable[[WorkflowHandle[Any, Any]], Awaitable[Answer]],
    ) -> Answer:
        """Call a run or, where an operator has reset it, the one that goes on for it."""
        try:
            return await call(self._client.get_workflow_handle(workflow_id, run_id=run_id))
        except NotFound:
            async with within(RPC_TIMEOUT):
                newest = await self._client.get_workflow_handle(workflow_id).describe(
                    rpc_timeout=RPC_TIMEOUT
                )
            is_open = newest.status == WorkflowExecutionStatus.RUNNING
            if not is_open or newest.raw_info.first_run_id != run_id:
                raise
        handle = self._client.get_workflow_handle(workflow_id, run_id=newest.run_id)
        return await call(handle)


def _why_not(domain: str, status: str | None) -> str:
    if status not in [each.value for each in Status if each.is_final]:
        return f"A request for {domain} is already under way."
    return (
        f"The last request for {domain} ended {status} and is still closing:"
        " its last emails are being sent. Try again in an hour at most."
    )


def _refusal(cause: BaseException | None) -> Rejected | BadInput:
    if isinstance(cause, ApplicationError) and cause.type == INVALID_REQUEST:
        return BadInput([FieldError.model_validate(each) for each in cause.details[0]])
    message = cause.message if isinstance(cause, FailureError) else None
    return Rejected(message or "The request has ended.")


def _listed(execution: WorkflowExecution) -> Listed:
    attributes = execution.typed_search_attributes
    status = attributes.get(STATUS)  # a foreign start may have given any
    return Listed(
        workflow_id=execution.id,
        request_id=execution.run_id,
        status=Status(status) if status in list(Status) else None,
        account_domain=attributes.get(DOMAIN),
        deadline=attributes.get(DEADLINE),
        requested_at=execution.start_time,
    )
