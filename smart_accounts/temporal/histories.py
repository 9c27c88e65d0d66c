"""The executions of a request in Temporal: wait for their end, and delete them."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHistoryEventFilterType,
)

from smart_accounts.contract.names import closing_id, remaining_emails_id
from smart_accounts.errors import NotFound
from smart_accounts.store.records import StoredRequest
from smart_accounts.temporal.errors import QUERY_TIMEOUT, time_limit, translate_errors
from smart_accounts.temporal.memo import request_id_in

GONE_EVERY = 0.2  # seconds between two looks whether Temporal has deleted an execution


class Histories:
    """All runs of a request and of its emails, also those from before a reset or a restart.

    Each method raises ``Unavailable`` if Temporal does not respond.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def are_there(self, request: StoredRequest) -> bool:
        return bool(await self._of_request(request))

    async def are_running(self, request: StoredRequest) -> bool:
        return bool(_running(await self._of_request(request)))

    async def wait_for_end(self, request: StoredRequest) -> None:
        """Wait until the request has ended and its last emails are sent."""
        while running := _running(await self._of_request(request)):
            for run in running:
                await self._wait_until_closed(run)

    async def delete(self, request: StoredRequest) -> int:
        """Delete the runs, one after another. Returns how many there were.

        A run that was reset shares events with the next one. If Temporal deleted both at the same
        time, each deletion would leave the events to the other run, and they would stay forever.
        """
        runs = await self._of_request(request)
        for run in runs:
            await self._delete(run.id, run.run_id)
            # Within seconds. A run that has just closed takes half a minute.
            while await self._describe(run.id, run.run_id):  # noqa: ASYNC110 - Temporal sends no event
                await asyncio.sleep(GONE_EVERY)
        return len(runs)

    async def _delete(self, workflow_id: str, run_id: str) -> None:
        # Without a run id, this would delete the newest run, which may be another request.
        assert run_id
        request = DeleteWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        )
        with suppress(NotFound):  # Temporal's retention has passed meanwhile
            async with time_limit(QUERY_TIMEOUT):
                await self._client.workflow_service.delete_workflow_execution(
                    request, retry=True, timeout=QUERY_TIMEOUT
                )

    async def _of_request(self, request: StoredRequest) -> list[WorkflowExecutionDescription]:
        workflow_id, request_id = request.workflow_id, request.id
        ids = (workflow_id, remaining_emails_id(request_id), closing_id(request_id))
        # Temporal's list is some seconds behind, so look at the known and the newest runs too.
        runs: set[tuple[str, str | None]] = {(each, None) for each in ids}
        runs |= {(workflow_id, request_id), (workflow_id, request.run_id)}
        query = "WorkflowId IN ({})".format(", ".join(f"'{each}'" for each in ids))
        async with time_limit(QUERY_TIMEOUT):
            async for listed in self._client.list_workflows(query, rpc_timeout=QUERY_TIMEOUT):
                runs.add((listed.id, listed.run_id))
        described = [await self._describe(its_id, run_id) for its_id, run_id in runs]
        found = {each.run_id: each for each in described if each}
        # A run with the domain's id may belong to another request. The store knows the first run
        # of a restart, also if its memo cannot be read, or if Temporal no longer has that run.
        first_runs = {request_id, request.run_id}
        return [
            each
            for each in found.values()
            if each.id != workflow_id
            or each.raw_info.first_run_id in first_runs
            or await request_id_in(each) == request_id
        ]

    async def _describe(
        self, workflow_id: str, run_id: str | None
    ) -> WorkflowExecutionDescription | None:
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            async with time_limit(QUERY_TIMEOUT):
                return await handle.describe(rpc_timeout=QUERY_TIMEOUT)
        except NotFound:
            return None

    async def _wait_until_closed(self, run: WorkflowExecutionDescription) -> None:
        handle = self._client.get_workflow_handle(run.id, run_id=run.run_id)
        events = handle.fetch_history_events(
            wait_new_event=True,
            event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT,
        )
        try:
            with translate_errors():
                async for _ in events:
                    return
        except NotFound:  # somebody has deleted it meanwhile
            return


def _running(
    found: Iterable[WorkflowExecutionDescription],
) -> list[WorkflowExecutionDescription]:
    return [each for each in found if each.status == WorkflowExecutionStatus.RUNNING]
