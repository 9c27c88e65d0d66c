"""What a subscriber costs the requests that it is told of."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from statistics import median
from typing import Any, NamedTuple

import pytest

from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from tests.faults.conftest import RequestFor
from tests.support.partners import KIM, PAT
from tests.support.service import Service
from tests.support.subscriber import Subscriber

BLOCKS, BLOCK, AT_ONCE = 20, 50, 4
WAITING = 7  # events of a request that waits for the customer


class Life(NamedTuple):
    """How long a request took, and the types of its events."""

    seconds: float
    events: tuple[int, ...]


@pytest.fixture
async def store(service: Service) -> AsyncIterator[AccountStore]:
    async with AccountStore.open(service.database_url) as opened:
        yield opened


@pytest.mark.full
@pytest.mark.timeout(3600)
async def test_requests_cost_the_same_with_a_subscriber(
    service: Service, store: AccountStore, subscriber: Subscriber, request_for: RequestFor
) -> None:
    service.settings |= {
        "SMART_ACCOUNTS_MAX_STARTS_PER_REQUESTER_PER_HOUR": "9999",
        "SMART_ACCOUNTS_MAX_EMAILS_PER_REQUESTER_PER_DAY": "9999",
    }
    await service.start_worker()
    endpoint = await subscriber.register(store, owner=PAT)
    lives: dict[str, list[Life]] = {PAT.subject: [], KIM.subject: []}
    for block in range(BLOCKS):  # alternately, because other programs use the machine too
        for owner in (PAT, KIM):
            names = [f"{owner.subject}-{block}-{number}" for number in range(BLOCK)]
            turns = asyncio.Semaphore(AT_ONCE)
            played = [play(service, turns, request_for(name), owner) for name in names]
            lives[owner.subject] += await asyncio.gather(*played)
    subscribed, other = lives[PAT.subject], lives[KIM.subject]
    expected = 2 * BLOCKS * BLOCK  # pending and active
    await subscriber.wait_for(expected)
    seconds = [median(each.seconds for each in each_kind) for each_kind in (subscribed, other)]
    events = [Counter(each.events for each in each_kind) for each_kind in (subscribed, other)]
    print(  # noqa: T201 - the figures of the run
        f"{len(subscribed)} requests each: median {seconds[0]:.3f} s with a subscriber,"
        f" {seconds[1]:.3f} s without, ratio {seconds[0] / seconds[1]:.2f};"
        f" events {[sum(len(k) * n for k, n in each.items()) for each in events]},"
        f" {len(subscriber.received)} calls for {expected} events"
    )
    assert events[0] == events[1]
    assert len({each.id for each in subscriber.taken()}) == expected
    assert not await store.deliveries.next_at(endpoint.id)
    assert seconds[0] / seconds[1] < 1.2


async def play(
    service: Service, turns: asyncio.Semaphore, request: dict[str, Any], owner: Partner
) -> Life:
    """Start a request and accept it once its emails are sent."""
    async with turns:
        began = time.monotonic()
        new = SmartAccountRequest.model_validate(request)
        started = await service.requests().start(new, owner=owner.identity)
        handle = service.handle(started)
        # Queries would add events.
        while (await handle.describe()).history_length < WAITING:
            await asyncio.sleep(0.05)
        await service.requests().accept(started.workflow_id)
        await handle.result()
        seconds = time.monotonic() - began
        history = await handle.fetch_history()
        return Life(seconds, tuple(event.event_type for event in history.events))
