"""What a subscriber costs the requests that it is told of."""

import asyncio
import time
from collections.abc import AsyncIterator
from statistics import median
from typing import Any, NamedTuple

import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from tests.faults.conftest import RequestFor
from tests.support.partners import KIM, PAT
from tests.support.service import Service
from tests.support.subscriber import Subscriber

REQUESTS = 1000  # of each kind
PER_SECOND = 3  # at the machine's limit, the deliveries would take CPU time from the requests
SECOND_ACTIVITY = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
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
    # Alternately, so that other programs slow down both kinds alike.
    owners = [PAT, KIM] * REQUESTS
    lives = await asyncio.gather(
        *(
            play(service, request_for(f"{owner.subject}-{number}"), owner, number / PER_SECOND)
            for number, owner in enumerate(owners)
        )
    )
    subscribed, other = lives[::2], lives[1::2]
    await subscriber.wait_for(2 * REQUESTS)  # pending and active
    seconds = [median(each.seconds for each in each_kind) for each_kind in (subscribed, other)]
    # On a busy machine, a second activity sends the emails that were not sent within three seconds.
    quick = [
        [each.events for each in each_kind if SECOND_ACTIVITY not in each.events]
        for each_kind in (subscribed, other)
    ]
    print(  # noqa: T201 - the figures of the run
        f"{REQUESTS} requests each: median {seconds[0]:.3f} s with a subscriber,"
        f" {seconds[1]:.3f} s without, ratio {seconds[0] / seconds[1]:.2f};"
        f" events of {[len(each) for each in quick]} quick ones:"
        f" {[sum(map(len, each)) / len(each) for each in quick]} each,"
        f" {len(subscriber.received)} calls for {2 * REQUESTS} events"
    )
    assert len({*quick[0], *quick[1]}) == 1
    assert len({each.id for each in subscriber.taken()}) == 2 * REQUESTS
    assert not await store.deliveries.next_at(endpoint.id)
    assert seconds[0] / seconds[1] < 1.2


async def play(service: Service, request: dict[str, Any], owner: Partner, after: float) -> Life:
    """Start a request after some seconds, and accept it once its emails are sent."""
    await asyncio.sleep(after)
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
