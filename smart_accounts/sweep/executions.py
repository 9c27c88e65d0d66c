"""The workflows of requests, as the sweep reads and repairs them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.exceptions import WorkflowAlreadyStartedError

from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import (
    LINK,
    REMAINING_EMAILS_TYPE,
    RESTARTS,
    STATUS,
    TASK_QUEUE,
    WORKFLOW_TYPE,
    closing_id,
    remaining_emails_id,
)
from smart_accounts.contract.steps import CloseAccount, Email, RequestRecord, SendEmails
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.store.comparison import ROWS_AT_ONCE, KnownRequest
from smart_accounts.store.restarts import LostRequest
from smart_accounts.temporal.closing import closed_account
from smart_accounts.temporal.codec import UnknownKey
from smart_accounts.temporal.errors import QUERY_TIMEOUT, RPC_TIMEOUT, time_limit, translate_errors
from smart_accounts.temporal.memo import memo, memo_value
from smart_accounts.temporal.running import start_input
from smart_accounts.temporal.starting import start_workflow

LIST_TIMEOUT = timedelta(seconds=20)  # for a page
_FIRST_TASK_COMPLETED = 4
"""The number of events after which a worker may have written to the store."""


class Executions:
    """Each method raises ``Unavailable`` if Temporal does not respond."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def namespace_id(self) -> str:
        async with time_limit(RPC_TIMEOUT):
            found = await self._client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=self._client.namespace),
                retry=True,
                timeout=RPC_TIMEOUT,
            )
        return found.namespace_info.id

    async def requests(self) -> AsyncIterator[Sequence[WorkflowExecution]]:
        """Yield the runs of all requests that Temporal keeps, in batches.

        The list is a little behind, so describe a run before you act on it.
        """
        batch = []
        async for execution in self._list(f"WorkflowType = '{WORKFLOW_TYPE}'"):
            batch.append(execution)
            if len(batch) == ROWS_AT_ONCE:
                yield batch
                batch = []
        yield batch

    async def closings(self) -> AsyncIterator[str]:
        """Yield the ids of the requests whose accounts Temporal has closed."""
        prefix = closing_id("")
        query = f"WorkflowType = '{REMAINING_EMAILS_TYPE}' AND WorkflowId STARTS_WITH '{prefix}'"
        async for execution in self._list(query):
            yield execution.id.removeprefix(prefix)

    async def _list(self, query: str) -> AsyncIterator[WorkflowExecution]:
        with translate_errors():
            async for execution in self._client.list_workflows(
                query, page_size=ROWS_AT_ONCE, rpc_timeout=LIST_TIMEOUT
            ):
                yield execution

    async def describe(
        self, workflow_id: str, run_id: str | None = None
    ) -> WorkflowExecutionDescription | None:
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        with suppress(NotFound):
            async with time_limit(QUERY_TIMEOUT):
                return await handle.describe(rpc_timeout=QUERY_TIMEOUT)
        return None

    async def find(self, known: KnownRequest) -> WorkflowExecutionDescription | None:
        """Return the newest run of a request, or the run that has its domain now.

        This reads no memo, because any client can start a run that claims to restart a request.
        """
        run = await self.describe(known.workflow_id, known.run_id)
        while run and (reset_run := reset_run_of(run)):
            run = await self.describe(known.workflow_id, reset_run)
        if run is None:  # Temporal keeps a run that was reset for a shorter time than its successor
            newest = await self.describe(known.workflow_id)
            is_running = newest and newest.status is WorkflowExecutionStatus.RUNNING
            run = newest if is_running or (newest and is_run_of(newest, known)) else None
        return run

    async def record(self, run: WorkflowExecution) -> RequestRecord | None:
        """Ask a worker what the store must have of a request. Returns None if none can tell."""
        with suppress(NotFound, Unavailable, WorkflowQueryFailedError):
            async with time_limit(QUERY_TIMEOUT):
                record = await self._handle(run).query(
                    "record", result_type=RequestRecord, rpc_timeout=QUERY_TIMEOUT
                )
            return record if isinstance(record, RequestRecord) else None
        return None

    async def cancel(self, run: WorkflowExecution) -> None:
        """Let a workflow end. It takes the decision that the store has."""
        with suppress(NotFound):
            async with time_limit(RPC_TIMEOUT):
                await self._handle(run).cancel(rpc_timeout=RPC_TIMEOUT)

    async def start_emails(
        self, request_id: str, emails: tuple[Email, ...], account_domain: str
    ) -> bool:
        """Start the workflow that sends a request's last emails. Returns False if it runs."""
        with suppress(WorkflowAlreadyStartedError):
            async with time_limit(RPC_TIMEOUT):
                await self._client.start_workflow(
                    REMAINING_EMAILS_TYPE,
                    SendEmails(request_id=request_id, emails=emails),
                    id=remaining_emails_id(request_id),
                    task_queue=TASK_QUEUE,
                    static_summary=f"Remaining emails for {account_domain}",
                    rpc_timeout=RPC_TIMEOUT,
                )
            return True
        return False

    async def restart(self, lost: LostRequest) -> bool:
        """Start a run that continues a request. Returns False if another run has the domain."""
        noted = memo(lost.idempotency_key, lost.stored.owner) | {RESTARTS: lost.stored.id}
        with suppress(WorkflowAlreadyStartedError):
            await start_workflow(self._client, lost.start_input, lost.stored.deadline, noted)
            return True
        return False

    async def closing(self, request_id: str) -> CloseAccount | None:
        """Return how Temporal has closed an account, or None if it has not or is unreadable."""
        handle: WorkflowHandle[Any, Any] = self._client.get_workflow_handle(closing_id(request_id))
        try:
            closed = await closed_account(handle)
            if closed is None or closed.at is None:
                return None
            async with time_limit(QUERY_TIMEOUT):
                first = await anext(handle.fetch_history_events(page_size=1))
        except (NotFound, WorkflowQueryFailedError):  # it was deleted, or no worker can continue it
            return None
        started = first.workflow_execution_started_event_attributes
        given = await start_input(self._client, started.input.payloads, SendEmails)
        if given is None or given.closing is None:
            return None
        return CloseAccount(request_id=request_id, closing=given.closing, at=closed.at)

    def _handle(self, run: WorkflowExecution) -> WorkflowHandle[Any, Any]:
        return self._client.get_workflow_handle(run.id, run_id=run.run_id)


def reset_run_of(run: WorkflowExecutionDescription) -> str:
    """Return the run that continues a run after a reset, or an empty string."""
    return run.raw_description.workflow_extended_info.reset_run_id


def was_seen_by_worker(run: WorkflowExecutionDescription) -> bool:
    return run.history_length >= _FIRST_TASK_COMPLETED


def is_run_of(run: WorkflowExecutionDescription, known: KnownRequest) -> bool:
    return run.raw_info.first_run_id in (known.id, known.run_id)


def run_to_store(run: WorkflowExecutionDescription, request_id: str) -> str:
    """Return the run by which the store knows a request.

    After a restart, it is the first run of the restart. Only that run leads to later resets.
    """
    first_run = run.raw_info.first_run_id
    return run.run_id if first_run == request_id else first_run


def status_of(run: WorkflowExecution) -> str | None:
    """Return the search attribute with the status. Another client may have set any text."""
    return run.typed_search_attributes.get(STATUS)


def is_final(status: str | None) -> bool:
    return status in [each.value for each in Status if each.is_final]


async def may_have_newer_link(run: WorkflowExecution, ordinal: int) -> bool:
    """Return True if a newer link than this one was issued, or if only a worker can tell."""
    try:
        link = await memo_value(run, LINK)  # only the first link is not in the memo
    except UnknownKey:
        return True
    return isinstance(link, int) and link > ordinal
