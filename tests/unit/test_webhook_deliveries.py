"""Webhook deliveries in the store: what is due, retries, disabled and paused endpoints."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.contract.webhooks import DeliveryState, EndpointState, EventType
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.store import deliveries
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Attempt, Delivery, Endpoint
from tests.support.partners import KIM, OPERATOR, PAT
from tests.support.stored_requests import decide, open_request
from tests.support.webhooks import add_endpoint, written

NOW = datetime.now(UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
DELIVERED = Attempt(status_code=204, response="", took_ms=12)
FAILED = Attempt(status_code=500, error="The receiver responded 500.", response="Oh\0no")
UNREACHABLE = Attempt(error="No connection.")


@pytest.fixture
async def endpoint(store: AccountStore) -> Endpoint:
    return await add_endpoint(store)


async def ping(store: AccountStore, endpoint: Endpoint, at: datetime = NOW) -> str:
    return await store.webhooks.ping(endpoint.id, at)


async def delivery_of(store: AccountStore, endpoint: Endpoint) -> Delivery:
    [delivery] = await store.webhooks.deliveries(endpoint.id)
    return delivery


async def state_of(store: AccountStore, endpoint: Endpoint) -> EndpointState:
    found = await store.webhooks.find(endpoint.id)
    assert found
    return found.state


async def due(store: AccountStore, endpoint: Endpoint, at: datetime) -> list[str]:
    return [each.id for each in await store.deliveries.due(endpoint.id, at, 100)]


async def test_delivered_event_is_done(store: AccountStore, endpoint: Endpoint) -> None:
    first = await ping(store, endpoint)
    assert await store.deliveries.not_handed_over() == {endpoint.id: [first]}
    await store.deliveries.mark_handed_over([first])
    assert await store.deliveries.not_handed_over() == {}
    assert await due(store, endpoint, NOW) == [first]
    recorded = await store.deliveries.record(first, DELIVERED, NOW)
    assert (recorded.next_at, recorded.is_disabled) == (None, False)
    assert await due(store, endpoint, NOW + DAY) == []
    assert await store.deliveries.next_at(endpoint.id) is None
    done = await delivery_of(store, endpoint)
    assert (done.state, done.attempts, done.status_code) == (DeliveryState.DELIVERED, 1, 204)
    assert (done.error, done.response, done.took_ms) == (None, "", 12)


async def test_failed_event_is_tried_for_three_days(
    store: AccountStore, endpoint: Endpoint
) -> None:
    first, at = await ping(store, endpoint), NOW
    for seconds in (10, 30, 90, 270, 810, 2430, 3600, 3600):
        recorded = await store.deliveries.record(first, FAILED, at)
        assert recorded.next_at == at + seconds * SECOND
        assert await store.deliveries.next_at(endpoint.id) == recorded.next_at
        at = recorded.next_at
    assert await due(store, endpoint, at - SECOND) == []
    assert await due(store, endpoint, at) == [first]
    end = NOW + 3 * DAY
    recorded = await store.deliveries.record(first, FAILED, end - 10 * SECOND)
    assert recorded.next_at == end
    assert (await store.deliveries.record(first, FAILED, end)).next_at is None
    failed = await delivery_of(store, endpoint)
    assert (failed.state, failed.attempts) == (DeliveryState.FAILED, 10)
    assert (failed.error, failed.response) == ("The receiver responded 500.", "Oh\ufffdno")
    assert await state_of(store, endpoint) is EndpointState.ENABLED


async def test_success_makes_everything_due_that_waits(
    store: AccountStore, endpoint: Endpoint
) -> None:
    first = await ping(store, endpoint)
    second = await ping(store, endpoint, NOW + SECOND)
    assert await due(store, endpoint, NOW + SECOND) == [first, second]
    await store.deliveries.record(first, UNREACHABLE, NOW + SECOND)
    assert await due(store, endpoint, NOW + SECOND) == [second], "the fewest tries come first"
    await store.deliveries.record(second, DELIVERED, NOW + SECOND)
    assert await due(store, endpoint, NOW + SECOND) == [first]
    next_at = await store.deliveries.next_at(endpoint.id)
    assert next_at
    assert next_at <= NOW + SECOND


async def test_endpoint_is_disabled_after_five_days(
    store: AccountStore, endpoint: Endpoint, example: dict[str, Any]
) -> None:
    failing = await ping(store, endpoint)
    await store.deliveries.record(failing, FAILED, NOW)
    await store.deliveries.record(failing, FAILED, NOW + 30 * HOUR)  # the series begins again
    for days in (2, 3, 4, 5, 6):
        recorded = await store.deliveries.record(failing, FAILED, NOW + days * DAY)
        assert not recorded.is_disabled
        failing = await ping(store, endpoint, NOW + days * DAY)
    assert await store.deliveries.owner_to_tell(endpoint.id) is None
    untried = await ping(store, endpoint, NOW + 6 * DAY)
    last = NOW + 6 * DAY + 7 * HOUR
    recorded = await store.deliveries.record(failing, FAILED, last)
    assert (recorded.next_at, recorded.is_disabled) == (None, True)
    recorded = await store.deliveries.record(failing, FAILED, last)  # it was on its way
    assert (recorded.next_at, recorded.is_disabled) == (None, False)
    assert await due(store, endpoint, last + DAY) == []
    states = {each.id: each for each in await written(store, endpoint)}
    assert {each.state for each in states.values()} == {DeliveryState.FAILED}
    assert states[untried].error == "The endpoint was disabled."
    await open_request(store, example, "one")
    assert len(await written(store, endpoint)) == len(states), "a disabled endpoint gets no events"

    told = await store.deliveries.owner_to_tell(endpoint.id)
    assert told
    assert told.disabled_at == last
    await store.deliveries.set_owner_told(endpoint.id, last - SECOND, last)  # of another time
    assert await store.deliveries.owner_to_tell(endpoint.id)
    await store.deliveries.set_owner_told(endpoint.id, last, last)
    assert await store.deliveries.owner_to_tell(endpoint.id) is None

    with pytest.raises(Rejected, match="The endpoint is disabled"):
        await store.webhooks.send_again(endpoint.id, failing, last)
    await store.webhooks.set_state(endpoint.id, EndpointState.ENABLED, last)
    await store.webhooks.send_again(endpoint.id, failing, last)
    assert await due(store, endpoint, last) == [failing]
    recorded = await store.deliveries.record(failing, FAILED, last)
    assert (recorded.next_at, recorded.is_disabled) == (last + 10 * SECOND, False)


async def test_paused_endpoint_gets_what_is_young_enough_later(
    store: AccountStore, endpoint: Endpoint, example: dict[str, Any]
) -> None:
    old = await ping(store, endpoint, NOW - 3 * DAY - SECOND)
    await store.webhooks.set_state(endpoint.id, EndpointState.PAUSED, NOW)
    await open_request(store, example, "one")
    [young] = [each for each in await written(store, endpoint) if each.type != "ping"]
    assert await store.deliveries.not_handed_over() == {}
    assert await due(store, endpoint, NOW + HOUR) == []
    assert await store.deliveries.next_at(endpoint.id) is None
    with pytest.raises(Rejected, match="The endpoint is paused"):
        await ping(store, endpoint)
    for _ in range(2):
        await store.webhooks.set_state(endpoint.id, EndpointState.ENABLED, NOW)
    assert await store.deliveries.not_handed_over() == {endpoint.id: [young.id]}
    assert await due(store, endpoint, NOW + HOUR) == [young.id]
    states = {each.id: (each.state, each.error) for each in await written(store, endpoint)}
    assert states[old] == (DeliveryState.FAILED, "The endpoint was paused for too long.")


async def test_late_failure_changes_nothing_that_is_over(
    store: AccountStore, endpoint: Endpoint
) -> None:
    """A worker lost its heartbeat, so another one made the same call. The first one failed late."""
    first = await ping(store, endpoint)
    await store.deliveries.record(first, DELIVERED, NOW)
    assert (await store.deliveries.record(first, UNREACHABLE, NOW)).next_at is None
    done = await delivery_of(store, endpoint)
    assert (done.state, done.attempts, done.error) == (DeliveryState.DELIVERED, 1, None)
    for days in range(6):
        last = await ping(store, endpoint, NOW + days * DAY)
        await store.deliveries.record(last, FAILED, NOW + days * DAY)
    assert await state_of(store, endpoint) is EndpointState.DISABLED
    at = NOW + 5 * DAY + SECOND
    await store.webhooks.set_state(endpoint.id, EndpointState.ENABLED, at)
    assert (await store.deliveries.record(last, UNREACHABLE, at)).next_at is None
    assert await due(store, endpoint, at + DAY) == []


async def test_backlog_of_a_resumed_endpoint_delays_no_other(
    store: AccountStore, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay takes the oldest deliveries first, so it must not have to take the backlog."""
    monkeypatch.setattr(deliveries, "HANDED_OVER_AT_ONCE", 3)
    backlog = [await ping(store, endpoint) for _ in range(5)]
    for state in (EndpointState.PAUSED, EndpointState.ENABLED):
        await store.webhooks.set_state(endpoint.id, state, NOW)
    other = await add_endpoint(store, KIM)
    fresh = await ping(store, other, NOW + SECOND)
    waiting = await store.deliveries.not_handed_over()
    assert waiting[other.id] == [fresh]
    assert len(waiting[endpoint.id]) == 1
    assert sorted(await due(store, endpoint, NOW)) == sorted(backlog)


async def test_event_is_sent_again(store: AccountStore, endpoint: Endpoint) -> None:
    first = await ping(store, endpoint, NOW - 10 * DAY)
    await store.deliveries.mark_handed_over([first])
    await store.deliveries.record(first, DELIVERED, NOW - 10 * DAY)
    await store.webhooks.send_again(endpoint.id, first, NOW)
    assert await store.deliveries.not_handed_over() == {endpoint.id: [first]}
    again = await delivery_of(store, endpoint)
    assert (again.state, again.attempts, again.try_until) == ("pending", 0, NOW + 3 * DAY)
    recorded = await store.deliveries.record(first, FAILED, NOW)
    assert recorded.next_at == NOW + 10 * SECOND
    other = await add_endpoint(store, KIM)
    for endpoint_id, delivery_id in [(other.id, first), (endpoint.id, "x"), ("x", first)]:
        with pytest.raises(NotFound):
            await store.webhooks.send_again(endpoint_id, delivery_id, NOW)
    assert (await delivery_of(store, endpoint)).attempts == 1


async def test_endpoints_are_changed_and_deleted(store: AccountStore, endpoint: Endpoint) -> None:
    everyones = await add_endpoint(store, OPERATOR, for_all_requests=True)
    assert await store.webhooks.list(PAT.identity) == [endpoint]
    assert await store.webhooks.list(KIM.identity) == []
    assert await store.webhooks.list(KIM.identity, with_all_requests=True) == [everyones]
    with pytest.raises(Rejected, match="Only an operator"):
        await add_endpoint(store, PAT, for_all_requests=True)
    url, until = "https://other.example/", NOW + DAY
    await store.webhooks.update(
        endpoint.id, url=url, description="New", event_types=[EventType.ACTIVE]
    )
    await store.webhooks.rotate_secret(endpoint.id, "sealed again", until)
    changed = await store.webhooks.find(endpoint.id)
    assert changed
    assert (changed.url, changed.event_types) == (url, (EventType.ACTIVE,))
    assert (changed.sealed_secret, changed.previous_sealed_secret) == ("sealed again", "sealed")
    assert changed.previous_secret_until == until
    delivery_id = await ping(store, endpoint)
    await ping(store, everyones)
    await store.webhooks.delete(endpoint.id)
    assert await store.webhooks.find(endpoint.id) is None
    assert await written(store, endpoint) == []
    assert (await store.deliveries.record(delivery_id, FAILED, NOW)).next_at is None
    assert len(await written(store, everyones)) == 1


async def test_partner_has_at_most_ten_endpoints(store: AccountStore) -> None:
    for _ in range(10):
        await add_endpoint(store, PAT)
    with pytest.raises(Rejected, match="You have 10 endpoints"):
        await add_endpoint(store, PAT)
    await add_endpoint(store, KIM)


async def test_old_deliveries_are_removed(store: AccountStore, endpoint: Endpoint) -> None:
    old, older = NOW - 30 * DAY, NOW - 30 * DAY - SECOND
    for at in (older, old):
        done = await ping(store, endpoint, at)
        await store.deliveries.record(done, DELIVERED, NOW)
    again = await ping(store, endpoint, older)
    await store.webhooks.send_again(endpoint.id, again, NOW - DAY)
    await ping(store, endpoint, older)  # and was never tried
    await store.deliveries.remove_old(NOW)
    assert {each.id for each in await written(store, endpoint)} == {done, again}


async def test_deliveries_go_with_a_purged_request(
    store: AccountStore, endpoint: Endpoint, example: dict[str, Any]
) -> None:
    for name in ("one", "two"):
        await open_request(store, example, name)
    await decide(store, "one", Status.DECLINED)
    await store.purge.purge(await store.purge.ended(NOW + DAY, []), NOW)
    assert [each.request_id for each in await written(store, endpoint)] == ["two"]


async def test_what_temporal_has_lost_is_overdue(store: AccountStore, endpoint: Endpoint) -> None:
    other = await add_endpoint(store, KIM)
    for each in (endpoint, other):
        await store.deliveries.mark_handed_over([await ping(store, each)])
    assert await store.deliveries.overdue(NOW) == []
    late = NOW + SECOND
    assert set(await store.deliveries.overdue(late)) == {endpoint.id, other.id}
    # A failing endpoint has more deliveries than it gets tries.
    failing = await ping(store, other)
    await store.deliveries.record(failing, FAILED, NOW)
    assert await store.deliveries.overdue(late) == [endpoint.id]
    assert other.id in await store.deliveries.overdue(late + HOUR)
    await store.webhooks.set_state(endpoint.id, EndpointState.PAUSED, NOW)
    assert await store.deliveries.overdue(late) == []
    await store.webhooks.set_state(endpoint.id, EndpointState.ENABLED, NOW)
    await store.deliveries.hand_over_again(other.id)
    waiting = await store.deliveries.not_handed_over()
    assert set(waiting) == {endpoint.id, other.id}


async def test_owner_who_was_not_told_is_overdue(store: AccountStore, endpoint: Endpoint) -> None:
    first, disabled_at = await ping(store, endpoint), NOW + 5 * DAY
    for hours in range(0, 121, 20):
        await store.deliveries.record(first, FAILED, NOW + hours * HOUR)
    await store.deliveries.mark_handed_over([first])
    assert await state_of(store, endpoint) is EndpointState.DISABLED
    assert await store.deliveries.overdue(disabled_at + DAY) == []
    assert await store.deliveries.overdue(disabled_at + DAY + SECOND) == [endpoint.id]
    await store.deliveries.hand_over_again(endpoint.id)
    assert await store.deliveries.not_handed_over() == {endpoint.id: [first]}
    await store.deliveries.set_owner_told(endpoint.id, disabled_at, NOW + 6 * DAY)
    assert await store.deliveries.overdue(disabled_at + 2 * DAY) == []
