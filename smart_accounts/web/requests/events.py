"""Server-sent events that tell a page that its request has changed."""

import asyncio
from collections.abc import AsyncIterator

from smart_accounts.errors import Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.web.requests.timeline import Snapshot

POLL_SECONDS = 2.0
STREAM_SECONDS = 60.0  # after this, the browser connects again
RECONNECT_MILLISECONDS = 2000


async def changes(
    store: AccountStore, request_id: str, seen: str, closing: asyncio.Event
) -> AsyncIterator[str]:
    """Yield one event when the request differs from the version that the page shows (``seen``).

    The page then loads the new version and listens again. The stream ends after a minute, or
    immediately when ``closing`` is set.
    """
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
    end = asyncio.get_running_loop().time() + STREAM_SECONDS
    while not closing.is_set() and asyncio.get_running_loop().time() < end:
        try:
            snapshot = await Snapshot.load(store, request_id)
        except Unavailable:
            return
        if snapshot and snapshot.version != seen:
            yield f"event: changed\ndata: {snapshot.version}\n\n"
            return
        yield ":\n\n"  # keeps proxies from closing the connection
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await closing.wait()
        except TimeoutError:
            continue
