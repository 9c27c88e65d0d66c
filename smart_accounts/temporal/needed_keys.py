"""Which keys the open workflows need, read from their histories."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from google.protobuf.message import Message
from temporalio.api.common.v1 import Header, Payload, SearchAttributes
from temporalio.api.history.v1 import MarkerRecordedEventAttributes
from temporalio.api.sdk.v1 import UserMetadata
from temporalio.client import Client

from smart_accounts.errors import NotFound
from smart_accounts.temporal.codec import key_id_of
from smart_accounts.temporal.errors import translate_errors
from smart_accounts.temporal.listing import OPEN_EXECUTIONS

# These are never encrypted, or only people read them.
_NOT_READ = (Header, SearchAttributes, UserMetadata)
_RESULT = "result"  # of a local activity; all else in a marker is the SDK's, and in clear


async def count_open(client: Client) -> int:
    """Return how many of our workflows are open. Temporal's list is some seconds behind."""
    with translate_errors():
        return (await client.count_workflows(OPEN_EXECUTIONS)).count


async def needed_keys(client: Client) -> AsyncIterator[set[str | None]]:
    """Yield the ids of the keys that each open workflow needs. None is a payload in clear."""
    with translate_errors():
        async for execution in client.list_workflows(OPEN_EXECUTIONS):
            handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
            needed: set[str | None] = set()
            try:
                with translate_errors():
                    async for event in handle.fetch_history_events():
                        needed.update(map(key_id_of, payloads_in(event)))
            except NotFound:  # it was deleted meanwhile
                continue
            yield needed


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
