"""What starter and web use to talk to Temporal: the only place that knows handles."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.errors import BadSetting, NotFound, Refused, Unavailable
from smart_accounts.messages import (
    DEADLINE_ATTRIBUTE,
    DOMAIN_ATTRIBUTE,
    STATUS_ATTRIBUTE,
    TASK_QUEUE,
    WORKFLOW_TYPE,
    Acceptance,
    Refusal,
    RequestStatus,
    SmartAccountRequest,
    Status,
    workflow_id,
)

RPC_TIMEOUT = timedelta(seconds=2)
QUERY_TIMEOUT = timedelta(seconds=5)  # a worker has to answer

STATUS = SearchAttributeKey.for_keyword(STATUS_ATTRIBUTE)
DOMAIN = SearchAttributeKey.for_keyword(DOMAIN_ATTRIBUTE)
DEADLINE = SearchAttributeKey.for_datetime(DEADLINE_ATTRIBUTE)

_NO_ANSWER = "Temporal does not answer; nothing was lost, try again."
_DOWN = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)


@dataclass(frozen=True)
class Started:
    """A request that Temporal has; ``request_id`` is the run id."""

    workflow_id: str
    request_id: str


@dataclass(frozen=True)
class Listed:
    """One line of the list, from Temporal's visibility."""

    workflow_id: str
    request_id: str
    status: Status | None
    account_domain: str | None
    deadline: datetime | None
    requested_at: datetime


async def connect(
    *, lazy: bool = False, data_converter: DataConverter = pydantic_data_converter
) -> Client:
    """A client for the server that the ``TEMPORAL_*`` variables name.

    Raises:
        Unavailable: the server does not answer; with ``lazy`` the first call tells.
    """
    try:
        config = ClientConfig.load_client_connect_config()
    except RuntimeError as error:
        raise BadSetting(f"bad TEMPORAL_ settings: {error}") from None
    config.setdefault("target_host", "localhost:7233")
    with _plain_errors():
        return await Client.connect(**config, data_converter=data_converter, lazy=lazy)


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
        async with _answer_within(RPC_TIMEOUT):
            await self._client.service_client.check_health(timeout=RPC_TIMEOUT)

    async def start(self, request: SmartAccountRequest) -> Started:
        """Start a request.

        Raises:
            Refused: one for this domain is open, or still sending its closing mails.
        """
        domain = request.account_domain
        attributes: list[SearchAttributePair[Any]] = [
            SearchAttributePair(STATUS, Status.PENDING.value),
            SearchAttributePair(DOMAIN, domain),
            SearchAttributePair(DEADLINE, datetime.now(UTC) + request.acceptance_window),
        ]
        try:
            async with _answer_within(RPC_TIMEOUT):
                handle: WorkflowHandle[Any, Any] = await self._client.start_workflow(
                    WORKFLOW_TYPE,
                    request,
                    id=workflow_id(domain),
                    task_queue=TASK_QUEUE,
                    search_attributes=TypedSearchAttributes(attributes),
                    static_summary=f"Smart Account for {domain}",
                    rpc_timeout=RPC_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            raise Refused(f"A request for {domain} is already under way.") from None
        assert handle.first_execution_run_id
        return Started(handle.id, handle.first_execution_run_id)

    async def outcome(self, started: Started) -> RequestStatus | None:
        """The first status a worker gives; ``None`` if none answers yet, which loses nothing.

        A query during the first workflow task would cut it in two, which costs three events;
        waiting for its end costs none.
        """
        handle = self._client.get_workflow_handle(started.workflow_id, run_id=started.request_id)
        try:
            async with _answer_within(QUERY_TIMEOUT):
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
            async with _answer_within(QUERY_TIMEOUT):
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
        with _plain_errors():
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
        await self._signal(workflow_id, run_id, "declined", Refusal(reason=reason))

    async def _signal(self, workflow_id: str, run_id: str | None, name: str, message: Any) -> None:
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        async with _answer_within(RPC_TIMEOUT):
            await handle.signal(name, message, rpc_timeout=RPC_TIMEOUT)


def _listed(execution: WorkflowExecution) -> Listed:
    attributes = execution.typed_search_attributes
    status = attributes.get(STATUS)
    return Listed(
        workflow_id=execution.id,
        request_id=execution.run_id,
        status=Status(status) if status else None,
        account_domain=attributes.get(DOMAIN),
        deadline=attributes.get(DEADLINE),
        requested_at=execution.start_time,
    )


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise NotFound("There is no open request there.") from None
        if error.status in _DOWN:
            raise Unavailable(_NO_ANSWER) from error
        raise
    except (RuntimeError, TimeoutError) as error:  # what a failed connection raises
        raise Unavailable(_NO_ANSWER) from error


@asynccontextmanager
async def _answer_within(limit: timedelta) -> AsyncIterator[None]:
    """Plain errors, and an end to waiting: a call's own time-out starts once it is connected."""
    with _plain_errors():
        async with asyncio.timeout(limit.total_seconds()):
            yield
