"""Tells a page that its request has changed, as server-sent events."""

import asyncio
from collections.abc import AsyncIterator

from smart_accounts.errors import Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.web.requests.timeline import Known

POLL_SECONDS = 2.0
STREAM_SECONDS = 60.0  # then the browser connects again
RECONNECT_MILLISECONDS = 2000


async def changes(
    store: AccountStore, request_id: str, seen: str, closing: asyncio.Event
) -> AsyncIterator[str]:
    """One event once the request is no longer as the page has ``seen`` it; the page then looks
    for itself and listens anew. Ends by itself, and at once when the service is ``closing``.
    """
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
    end = asyncio.get_running_loop().time() + STREAM_SECONDS
    while not closing.is_set() and asyncio.get_running_loop().time() < end:
        try:
            known = await Known.load(store, request_id)
        except Unavailable:
            return
        if known and known.version != seen:
            yield f"event: changed\ndata: {known.version}\n\n"
            return
        yield ":\n\n"  # so that no proxy takes the connection for dead
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await closing.wait()
        except TimeoutError:
            continue
