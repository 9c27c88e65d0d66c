"""Server-sent events that tell a page that its request has changed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from smart_accounts.errors import Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.web.requests.timeline import Snapshot

POLL_SECONDS = 2.0
STREAM_SECONDS = 60.0  # after this, the browser connects again
RECONNECT_MILLISECONDS = 2000
STREAMS_PER_SESSION = 6  # as many connections as a browser opens to one site over HTTP/1.1
STREAMS_PER_PROCESS = 100  # each costs three queries every two seconds


class EventStream(StreamingResponse):
    """Streams events, or responds with 429 if there are too many streams.

    ``open_streams`` counts the open streams of each session. The stream is counted only while it
    is sent, so that a connection that breaks early is not counted forever.
    """

    def __init__(
        self, events: AsyncIterator[str], session_id: str, open_streams: Counter[str]
    ) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._session_id = session_id
        self._open_streams = open_streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams, own = self._open_streams, self._session_id
        if streams[own] >= STREAMS_PER_SESSION or streams.total() >= STREAMS_PER_PROCESS:
            refusal = PlainTextResponse("Too many open pages.", 429)
            await refusal(scope, receive, send)
            return
        streams[own] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            streams[own] -= 1
            if not streams[own]:
                del streams[own]


async def changes(
    store: AccountStore,
    request_id: str,
    seen: str,
    closing: asyncio.Event,
    is_signed_in: Callable[[], Awaitable[bool]],
) -> AsyncIterator[str]:
    """Yield one event when the request differs from the version that the page shows (``seen``).

    The page then loads the new version and listens again. The stream ends after a minute, when the
    person is no longer signed in, or immediately when ``closing`` is set.
    """
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
    loop = asyncio.get_running_loop()
    end = loop.time() + STREAM_SECONDS
    with suppress(Unavailable):  # the browser connects again after the outage
        while True:
            snapshot = await Snapshot.load(store, request_id)
            if snapshot and snapshot.version != seen:
                yield f"event: changed\ndata: {snapshot.version}\n\n"
                return
            yield ":\n\n"  # keeps proxies from closing the connection
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await closing.wait()
            if closing.is_set() or loop.time() > end or not await is_signed_in():
                return
