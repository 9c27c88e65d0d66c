"""Replay the open executions with this code, as a worker of this version will continue them."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.worker import Replayer

from smart_accounts.cli import output
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.temporal.errors import QUERY_TIMEOUT, translate_errors
from smart_accounts.temporal.listing import OPEN_EXECUTIONS
from smart_accounts.text import counted, one_line
from smart_accounts.version import code_id
from workflows.options import workflow_options

MAX_REASON = 300  # characters
_READABLE = (
    r'\[TMPRL\d+\][^"]*|Workflow class [^"]* is not registered|Temporal holds data that is [^"]*'
)
OF_WORKFLOW_TASKS = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
}


async def replay_open_executions(client: Client) -> WorkflowHandle[Any, Any] | None:
    """Replay all open executions. Returns one that waits for an event, if there is one.

    Raises:
        Rejected: Some of them cannot continue with this code. They have been printed.
    """
    with translate_errors():
        total = (await client.count_workflows(OPEN_EXECUTIONS, rpc_timeout=QUERY_TIMEOUT)).count
    replayer = Replayer(
        **workflow_options(), data_converter=client.data_converter, build_id=code_id()
    )
    waiting, replayed, failures = None, 0, list[str]()
    with output.progress_bar(total, hidden=False, label="Replaying") as advance:

        def count() -> None:
            nonlocal replayed
            advance()
            replayed += 1

        async with replayer.workflow_replay_iterator(_open_histories(client, count)) as results:
            async for result in results:
                count()
                id_, run_id = result.history.workflow_id, result.history.run_id
                if result.replay_failure:
                    failures.append(f"{one_line(id_)}: {_reason(result.replay_failure)}")
                elif waiting is None and _is_waiting(result.history):
                    waiting = client.get_workflow_handle(id_, run_id=run_id)
    output.show(*failures)
    executions = counted(replayed, "open execution")
    if failures:
        raise Rejected(
            f"{len(failures)} of {executions} cannot continue with this code. Nothing was changed."
        )
    output.show(f"Replayed {executions} with this code.")
    return waiting


async def _open_histories(
    client: Client, count_without_replay: Callable[[], None]
) -> AsyncIterator[WorkflowHistory]:
    with translate_errors():
        async for execution in client.list_workflows(OPEN_EXECUTIONS, rpc_timeout=QUERY_TIMEOUT):
            handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
            with suppress(NotFound), translate_errors():  # it was deleted a moment ago
                history = await handle.fetch_history(rpc_timeout=QUERY_TIMEOUT)
                types = {event.event_type for event in history.events}
                if EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED in types:
                    yield history
                else:  # a delayed start: the SDK would wait for its first task for ever
                    count_without_replay()


def _reason(failure: Exception) -> str:
    """Return why a history does not replay.

    The SDK's own messages tell what differs, and ours which key is missing. Messages of other
    errors may quote personal data.
    """
    text = str(failure)
    if message := re.search(_READABLE, text):
        return one_line(message[0])[:MAX_REASON]
    kind = re.search(r'r#type: "(\w+)"', text)
    return f"the workflow raised {kind[1] if kind else type(failure).__name__}"


def _is_waiting(history: WorkflowHistory) -> bool:
    """Return True if no workflow task is pending. A query would have to wait for that task."""
    types = [event.event_type for event in history.events]
    of_tasks = [each for each in types if each in OF_WORKFLOW_TASKS]
    return of_tasks[-1] == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
