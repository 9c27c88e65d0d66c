"""Keep in Temporal how erased requests ended, because their histories are deleted.

A store that is restored from an older backup does not know how such a request ended. Without this,
the sweep would think that Temporal had lost the workflow, and would withdraw the request.
"""

from collections.abc import AsyncIterator

from temporalio.client import Client, WorkflowExecution
from temporalio.common import WorkflowIDConflictPolicy

from smart_accounts.contract.names import (
    HOW_IT_ENDED,
    REMAINING_EMAILS_TYPE,
    TASK_QUEUE,
    erased_id,
)
from smart_accounts.contract.steps import ErasedRequest, SendEmails
from smart_accounts.temporal.codec import UnknownKey
from smart_accounts.temporal.errors import QUERY_TIMEOUT, RPC_TIMEOUT, time_limit, translate_errors
from smart_accounts.temporal.memo import memo_value


class Erasures:
    """Each method raises ``Unavailable`` if Temporal does not respond."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def add(self, erased: ErasedRequest) -> None:
        """Keep how a request ended, for as long as the namespace keeps ended workflows."""
        async with time_limit(RPC_TIMEOUT):
            await self._client.start_workflow(
                REMAINING_EMAILS_TYPE,
                SendEmails(request_id=erased.request_id, emails=()),
                id=erased_id(erased.request_id),
                task_queue=TASK_QUEUE,
                # Another person in the request may be erased later.
                id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
                static_summary=f"Erased request for {erased.account_domain}",
                memo={HOW_IT_ENDED: erased.model_dump(mode="json")},
                rpc_timeout=RPC_TIMEOUT,
            )

    async def all(self) -> AsyncIterator[tuple[str, ErasedRequest | None]]:
        """Yield the id of each erased request and how it ended, or None if that is unreadable.

        A request can come several times. Then the newest erasure counts.
        """
        prefix = erased_id("")
        query = f"WorkflowType = '{REMAINING_EMAILS_TYPE}' AND WorkflowId STARTS_WITH '{prefix}'"
        with translate_errors():
            async for run in self._client.list_workflows(query, rpc_timeout=QUERY_TIMEOUT):
                request_id = run.id.removeprefix(prefix)
                yield request_id, await _how_it_ended(run, request_id)


async def _how_it_ended(run: WorkflowExecution, request_id: str) -> ErasedRequest | None:
    try:
        erased = ErasedRequest.model_validate(await memo_value(run, HOW_IT_ENDED))
    except (UnknownKey, ValueError):
        return None
    return erased if erased.request_id == request_id else None
