"""Close accounts. A workflow of its own records the closing and sends the emails about it."""

from contextlib import suppress
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from smart_accounts.contract.actions import ActionMessage, ActionResult, Closing
from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import REMAINING_EMAILS_TYPE, STATUS, TASK_QUEUE, closing_id
from smart_accounts.contract.steps import ClosedAccount, SendEmails
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.temporal.errors import QUERY_TIMEOUT, RPC_TIMEOUT, time_limit
from smart_accounts.temporal.memo import request_id_in
from smart_accounts.text import utc


async def close(client: Client, request_id: str, new: Closing) -> ActionResult:
    """Start the workflow that closes an account. Wait until it has, if a worker runs."""
    async with time_limit(RPC_TIMEOUT):
        handle: WorkflowHandle[Any, Any] = await client.start_workflow(
            REMAINING_EMAILS_TYPE,
            SendEmails(request_id=request_id, emails=(), closing=new),
            id=closing_id(request_id),
            task_queue=TASK_QUEUE,
            # The first closing counts. It may still wait for the mail server.
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Close the account of {new.account_domain}",
            rpc_timeout=RPC_TIMEOUT,
        )
    closed = await closed_account(handle)
    message = ActionMessage.CLOSED
    if closed is None:
        message = ActionMessage.CLOSE_RECEIVED
    elif closed.at is None:
        raise Rejected("There is no active account to close.")
    elif closed.reason != new.reason:
        raise Rejected(
            f"The account was already closed at {utc(closed.at)} for another reason."
            " Nothing was changed."
        )
    return ActionResult(status=Status.ACTIVE, message=message)


async def closed_account(handle: WorkflowHandle[Any, Any]) -> ClosedAccount | None:
    """Return the closing that the store has, or ``None`` if no worker responds."""
    try:
        async with time_limit(QUERY_TIMEOUT):
            await first_task(handle)
            found = await handle.query("closed_account", rpc_timeout=QUERY_TIMEOUT)
    except Unavailable:
        return None
    return ClosedAccount.model_validate(found) if found else None


async def first_task(handle: WorkflowHandle[Any, Any]) -> None:
    """Wait for the end of a workflow's first task."""
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return


async def find_account(client: Client, workflow_id: str) -> str:
    """Return the id of the newest request of this workflow id that led to an account.

    Raises:
        NotFound: Temporal keeps no such request.
    """
    newest = client.get_workflow_handle(workflow_id)
    with suppress(NotFound):
        async with time_limit(QUERY_TIMEOUT):
            described = await newest.describe()
            # Temporal's list is some seconds behind, so first look at the newest run itself.
            if described.typed_search_attributes.get(STATUS) == Status.ACTIVE:
                return await request_id_in(described)
            # A later request is open, or it was rejected.
            query = f"WorkflowId = '{workflow_id}' AND {STATUS.name} = '{Status.ACTIVE}'"
            async for each in client.list_workflows(query):
                run = client.get_workflow_handle(workflow_id, run_id=each.run_id)
                return await request_id_in(await run.describe())
    raise NotFound(
        f"Temporal keeps no active request with the id {workflow_id}. If its retention has passed,"
        " name the request with --request-id. The address of its page has the id after run=."
    )
