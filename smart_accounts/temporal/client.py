"""The client of the requests, for starter and web."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.runtime import Runtime

from smart_accounts.contract.actions import (
    ActionResult,
    Actor,
    Closing,
    NewApprover,
    Resend,
    Review,
    Withdrawal,
)
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import (
    Acceptance,
    Decline,
    Message,
    RequestStatus,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.names import (
    IDEMPOTENCY_KEY,
    STATUS,
    workflow_id,
)
from smart_accounts.contract.steps import Bounce
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.temporal import closing, ended, listing, running, updates
from smart_accounts.temporal.connection import connect
from smart_accounts.temporal.errors import (
    QUERY_TIMEOUT,
    RPC_TIMEOUT,
    domain_taken,
    time_limit,
    update_failed,
)
from smart_accounts.temporal.memo import memo, memo_value, owner_in, request_id_in
from smart_accounts.temporal.records import Listed, RunningRequest, Started
from smart_accounts.temporal.starting import start_workflow

Result = TypeVar("Result")

_NO_STATUS = "No response. Temporal is down, or no worker runs. Nothing was lost; try again."


class RequestClient:
    """Start requests, read them and act on them.

    Every method raises ``Unavailable`` if Temporal does not respond in time. Signals and updates
    raise ``NotFound`` if no request is open under that id. A repeated update succeeds.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    async def connect(cls, *, lazy: bool = False, runtime: Runtime | None = None) -> Self:
        return cls(await connect(lazy=lazy, runtime=runtime))

    async def check(self) -> None:
        """Check that Temporal responds."""
        async with time_limit(RPC_TIMEOUT):
            await self._client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=self._client.namespace), timeout=RPC_TIMEOUT
            )

    async def start(
        self,
        request: SmartAccountRequest,
        *,
        key: str | None = None,
        owner: Identity | None = None,
    ) -> Started:
        """Start a request. Return the open request if it was started with the same key.

        Raises:
            Rejected: Another request for this domain is open or still sends its closing emails.
        """
        now = datetime.now(UTC)
        try:
            handle = await start_workflow(
                self._client, request, now + request.acceptance_window, memo(key, owner)
            )
        except WorkflowAlreadyStartedError:
            return await self._find_started(key, request.account_domain, owner)
        assert handle.first_execution_run_id
        return Started(handle.id, handle.first_execution_run_id, now)

    async def _find_started(self, key: str | None, domain: str, caller: Identity | None) -> Started:
        handle = self._client.get_workflow_handle(workflow_id(domain))
        try:
            async with time_limit(RPC_TIMEOUT):
                described = await handle.describe(rpc_timeout=RPC_TIMEOUT)
                started_with = await memo_value(described, IDEMPOTENCY_KEY)
                owner = await owner_in(described)
        except NotFound:  # the other request closed a moment ago
            raise domain_taken(domain, None) from None
        if key and started_with == key:
            id_ = await request_id_in(described)
            return Started(handle.id, id_, described.start_time)
        # The search attribute needs no worker. A query would.
        status = described.typed_search_attributes.get(STATUS)
        # A caller without an identity may read everything in the namespace anyway.
        raise domain_taken(domain, status, may_know=caller in (None, owner))

    async def find_running(
        self, workflow_id: str, *, run_id: str | None = None, owner: Identity | None = None
    ) -> RunningRequest:
        """Return an open request, even if no worker has seen it yet. See ``running.find``."""
        return await running.find(self._client, workflow_id, run_id, only_of=owner)

    async def outcome(self, started: Started) -> RequestStatus | None:
        """Return the status after the first workflow task, or ``None`` if no worker responds.

        This waits for the end of that task before it queries, because a query during the task
        would split it and add three events to the history.
        """
        handle = self._client.get_workflow_handle(started.workflow_id, run_id=started.request_id)
        try:
            async with time_limit(QUERY_TIMEOUT):
                await closing.first_task(handle)
            return await self.status(started.workflow_id, run_id=started.request_id)
        except Unavailable:
            return None

    async def status(self, workflow_id: str, *, run_id: str | None = None) -> RequestStatus:
        """Return the status of a request. Without ``run_id``, take the newest of the workflow id.

        Raises:
            NotFound: There is no such request.
        """

        async def query(handle: WorkflowHandle[Any, Any]) -> RequestStatus:
            async with time_limit(QUERY_TIMEOUT, _NO_STATUS):
                status: RequestStatus = await handle.query(
                    "status", result_type=RequestStatus, rpc_timeout=QUERY_TIMEOUT
                )
                return status

        try:
            return await self._on_newest_run(workflow_id, run_id, query)
        except WorkflowQueryFailedError:
            raise NotFound("There is no request, because its start input broke a rule.") from None

    def list(self, status: Status | None = None) -> AsyncIterator[Listed]:
        """Yield the requests, newest first. Temporal's visibility store is some seconds behind."""
        return listing.with_status(self._client, status)

    async def find_open(self, query: str) -> Sequence[Listed]:
        """Return the open requests that match a list filter. See ``listing.open_requests``."""
        return await listing.open_requests(self._client, query)

    async def accept(
        self,
        workflow_id: str,
        *,
        run_id: str | None = None,
        link: int | None = None,
        accepted_by: str | None = None,
    ) -> None:
        """Tell a request that the customer accepts, through the link with this ordinal."""
        acceptance = Acceptance(link=link, accepted_by=accepted_by)
        await self._signal(workflow_id, run_id, "accepted", acceptance)

    async def decline(
        self,
        workflow_id: str,
        *,
        run_id: str | None = None,
        link: int | None = None,
        reason: str | None = None,
        report: bool = False,
    ) -> None:
        """Tell a request that the customer declines, through the link with this ordinal."""
        decline = Decline(link=link, reason=reason, report=report)
        await self._signal(workflow_id, run_id, "declined", decline)

    async def report_bounce(self, workflow_id: str, *, run_id: str, bounce: Bounce) -> None:
        """Tell a request that one of its emails bounced."""
        await self._signal(workflow_id, run_id, "bounced", bounce)

    async def resend(
        self, workflow_id: str, *, run_id: str | None = None, by: Actor | None = None
    ) -> ActionResult:
        """Send the activation email again, with a new link.

        Raises:
            Rejected: The request does not allow this now. The other actions raise this too.
        """
        return await self._update(workflow_id, run_id, "resend_activation_email", Resend(by=by))

    async def replace_approver(
        self, workflow_id: str, new: NewApprover, *, run_id: str | None = None
    ) -> ActionResult:
        """Ask another person at the customer's company instead.

        Raises:
            BadInput: The address breaks a rule of this request.
        """
        return await self._update(workflow_id, run_id, "replace_approver", new)

    async def withdraw(
        self, workflow_id: str, withdrawal: Withdrawal, *, run_id: str | None = None
    ) -> ActionResult:
        """Withdraw the request for the requester or an operator. A repeat changes nothing."""
        return await self._update(workflow_id, run_id, "withdraw", withdrawal)

    async def review(
        self, workflow_id: str, review: Review, *, run_id: str | None = None
    ) -> ActionResult:
        """Approve or reject a request in review, as an operator."""
        return await self._update(workflow_id, run_id, "review", review)

    async def close(self, request_id: str, new: Closing) -> ActionResult:
        """Close the active account of a request for an operator.

        Raises:
            Rejected: There is no active account, or it was closed for another reason.
        """
        return await closing.close(self._client, request_id, new)

    async def find_account(self, workflow_id: str) -> str:
        """Return the id of the newest request of this workflow id that led to an account.

        Raises:
            NotFound: Temporal keeps no such request.
        """
        return await closing.find_account(self._client, workflow_id)

    async def _update(
        self, workflow_id: str, run_id: str | None, name: str, message: Message
    ) -> ActionResult:
        async def update(handle: WorkflowHandle[Any, Any]) -> ActionResult:
            return await updates.execute(handle, name, message)

        try:
            return await self._on_newest_run(workflow_id, run_id, update)
        except WorkflowUpdateFailedError as error:
            raise update_failed(error.cause) from None
        except NotFound:
            return ended.repeat(message, await self.status(workflow_id, run_id=run_id))

    async def _signal(self, workflow_id: str, run_id: str | None, name: str, message: Any) -> None:
        async def signal(handle: WorkflowHandle[Any, Any]) -> None:
            async with time_limit(RPC_TIMEOUT):
                await handle.signal(name, message, rpc_timeout=RPC_TIMEOUT)

        await self._on_newest_run(workflow_id, run_id, signal)

    async def _on_newest_run(
        self,
        workflow_id: str,
        run_id: str | None,
        call: Callable[[WorkflowHandle[Any, Any]], Awaitable[Result]],
    ) -> Result:
        """Call a run. If an operator has reset or restarted it, call the run that replaced it."""
        try:
            return await call(self._client.get_workflow_handle(workflow_id, run_id=run_id))
        except NotFound:
            async with time_limit(RPC_TIMEOUT):
                newest = await self._client.get_workflow_handle(workflow_id).describe(
                    rpc_timeout=RPC_TIMEOUT
                )
            if newest.run_id == run_id or await request_id_in(newest) != run_id:
                raise
        handle = self._client.get_workflow_handle(workflow_id, run_id=newest.run_id)
        return await call(handle)
