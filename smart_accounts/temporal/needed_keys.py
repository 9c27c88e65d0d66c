"""Which keys the open workflows need, read from their histories."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import suppress

from google.protobuf.message import Message
from temporalio.api.common.v1 import Header, Payload, SearchAttributes
from temporalio.api.history.v1 import MarkerRecordedEventAttributes
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.client import Client, ScheduleActionExecutionStartWorkflow
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.names import SWEEP_ID
from smart_accounts.errors import NotFound
from smart_accounts.temporal.codec import key_id_of
from smart_accounts.temporal.errors import translate_errors
from smart_accounts.temporal.listing import OPEN_EXECUTIONS

# These are never encrypted, or only people read them.
_NOT_READ = (Header, SearchAttributes, UserMetadata)
_NO_SCHEDULE = (
    RPCStatusCode.NOT_FOUND,
    RPCStatusCode.UNIMPLEMENTED,
    RPCStatusCode.PERMISSION_DENIED,
)
_RESULT = "result"  # of a local activity; all else in a marker is the SDK's, and in clear


async def count_open(client: Client) -> int:
    """Return how many of our workflows are open. Temporal's list is some seconds behind."""
    with translate_errors():
        return (await client.count_workflows(OPEN_EXECUTIONS)).count


async def needed_keys(client: Client) -> AsyncIterator[set[str | None]]:
    """Yield the ids of the keys that each open workflow needs. None is a payload in clear."""
    with translate_errors():
        async for execution in client.list_workflows(OPEN_EXECUTIONS):
            needed = await _keys_in(client, execution.id, execution.run_id)
            if needed is not None:
                yield needed


async def needed_by_next_sweep(client: Client) -> set[str | None]:
    """Return the keys of the last sweep's result, which Temporal gives to the next sweep.

    If the schedule is paused, this can be an old key although no workflow is open.
    """
    with translate_errors():
        try:
            described = await client.get_schedule_handle(SWEEP_ID).describe()
        except RPCError as error:
            if error.status not in _NO_SCHEDULE:
                raise
            return set()  # nothing schedules sweeps here
    needed: set[str | None] = set()
    for recent in described.info.recent_actions[-1:]:
        if isinstance(sweep := recent.action, ScheduleActionExecutionStartWorkflow):
            found = await _keys_in(client, sweep.workflow_id, sweep.first_execution_run_id)
            needed |= found or set()
    return needed


async def _keys_in(client: Client, workflow_id: str, run_id: str | None) -> set[str | None] | None:
    """Return the keys of a history, or None if it was deleted."""
    handle = client.get_workflow_handle(workflow_id, run_id=run_id)
    with suppress(NotFound), translate_errors():
        events = [event async for event in handle.fetch_history_events()]
        return {key_id_of(payload) for event in events for payload in payloads_in(event)}
    return None


def payloads_in(message: Message) -> Iterator[Payload]:
    """Yield the payloads of an event that a worker reads."""
    if isinstance(message, Payload):
        yield message
    elif isinstance(message, MarkerRecordedEventAttributes):
        yield from message.details[_RESULT].payloads if _RESULT in message.details else ()
    elif not isinstance(message, _NOT_READ):
        for _, value in message.ListFields():
            for part in _parts(value):
                yield from payloads_in(part)


def _parts(value: object) -> list[Message]:
    """Return the messages in the value of a field."""
    if isinstance(value, Message):
        return [value]
    values = value.values() if isinstance(value, Mapping) else value
    if isinstance(values, bytes) or not isinstance(values, Iterable):
        return []
    return [each for each in values if isinstance(each, Message)]
