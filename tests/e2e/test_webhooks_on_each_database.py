"""Webhook events and the changes that they tell of, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.contract.steps import Addressee, Email, EmailOutcome
from smart_accounts.contract.webhooks import DeliveryState, EndpointState, EventType
from smart_accounts.errors import Rejected
from smart_accounts.store import tables
from smart_accounts.store.migrate import migrate
from smart_accounts.store.outbox import add_event
from smart_accounts.store.records import ReturnedEmail
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Attempt
from tests.e2e.test_each_database import OLD_REQUEST, migrate_to
from tests.support.ledger import add_email
from tests.support.partners import OPERATOR, PAT
from tests.support.postgres import Postgres
from tests.support.store import QueryDatabase
from tests.support.stored_requests import NOW, decide, open_request
from tests.support.webhooks import add_endpoint, types, written

DELIVERIES = tables.webhook_deliveries
WAITS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type"
FAILED = Attempt(status_code=500, error="The receiver responded 500.", response="\0" * 400)
SENT = EmailOutcome(state=EmailState.SENT, at=NOW)
BOUNCED = EmailOutcome(state=EmailState.BOUNCED, at=NOW, answer="550 5.1.1 No such user")


@pytest.fixture
async def store(any_database_url: str) -> AsyncIterator[AccountStore]:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as opened:
        yield opened


class Broken(Exception):
    """Raised in place of a statement."""


async def test_event_and_change_exist_together_or_not_at_all(
    store: AccountStore, example: dict[str, Any]
) -> None:
    """The machine stops before any statement of a change, or before its commit."""
    endpoint = await add_endpoint(store)
    await open_request(store, example, "one")
    left = 0

    def stop(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Broken

    engine = store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", stop)
    event.listen(engine, "commit", stop)
    stops = 0
    while True:
        left = stops
        try:
            await decide(store, "one", Status.ACTIVE)
        except Broken:
            stops += 1
        else:
            break
        left = 1000
        request = await store.requests.find("one")
        assert request
        assert request.status is Status.PENDING
        assert await types(store, endpoint) == ["request.pending"]
    assert stops > 5
    left = 1000
    request = await store.requests.find("one")
    assert request
    assert request.status is Status.ACTIVE
    assert [each.sequence for each in await written(store, endpoint)] == [1, 2]


async def test_concurrent_changes_have_their_own_sequence(
    store: AccountStore, example: dict[str, Any]
) -> None:
    endpoint = await add_endpoint(store)
    users = [f"user{number}@acme.example" for number in range(8)]
    await open_request(store, example, "one", user_emails=users)
    emails = [
        Email(kind=EmailKind.ACCESS_GRANTED, to=Addressee.ADDED_USER, number=number)
        for number in range(1, 9)
    ]
    for email in emails:
        await add_email(store, "one", email, SENT)
    returned = [ReturnedEmail(workflow_id="", request_id="one", email=email) for email in emails]
    await asyncio.gather(
        decide(store, "one", Status.ACTIVE),
        *(store.emails.mark_bounced(each, BOUNCED) for each in returned * 2),
    )
    events = await written(store, endpoint)
    assert [each.sequence for each in events] == list(range(1, 11))
    assert sorted(each.type for each in events) == [
        *["email.bounced"] * 8,
        "request.active",
        "request.pending",
    ]
    # Each event shows at least the changes before it.
    shown = [each.body.count('"bounced"') for each in events]
    assert shown == sorted(shown)


async def test_endpoints_may_change_while_events_are_written(
    store: AccountStore, example: dict[str, Any]
) -> None:
    """No change of a request fails or waits because an endpoint is deleted, paused or tried."""
    kept = await add_endpoint(store, OPERATOR, for_all_requests=True)
    gone = [await add_endpoint(store, PAT) for _ in range(5)]
    names = [f"r{number}" for number in range(5)]
    failing = await store.webhooks.ping(kept.id, NOW)

    async def change_endpoints() -> None:
        for endpoint in gone:
            await store.webhooks.set_state(endpoint.id, EndpointState.PAUSED, NOW)
            await store.deliveries.record(failing, FAILED, NOW)
            await store.webhooks.delete(endpoint.id)

    async def hand_over() -> None:
        for _ in range(5):
            for ids in (await store.deliveries.not_handed_over()).values():
                await store.deliveries.mark_handed_over(ids)

    async def make(name: str) -> None:
        await open_request(store, example, name)
        await decide(store, name, Status.DECLINED)

    async with asyncio.timeout(60):
        await asyncio.gather(change_endpoints(), hand_over(), *map(make, names))
    assert len(await types(store, kept)) == 2 * len(names) + 1
    assert [each.id for each in await store.webhooks.list(PAT.identity)] == []


async def test_deliveries_are_locked_in_the_order_of_their_ids(postgres: Postgres) -> None:
    """Otherwise two transactions that change the same deliveries could wait for each other."""
    url = postgres.new_database()
    await migrate(url)
    async with AccountStore.open(url) as store, asyncio.timeout(60):
        endpoint = await add_endpoint(store)
        async with store.engine.begin() as connection:
            for name in ("b", "a"):  # "b" comes first in the file
                delivery = await store.webhooks.ping(endpoint.id, NOW)
                rename = update(DELIVERIES).where(DELIVERIES.c.id == delivery).values(id=name)
                await connection.execute(rename)
        lock = select(DELIVERIES.c.id).with_for_update(nowait=True)
        async with store.engine.begin() as connection:
            await connection.execute(lock.where(DELIVERIES.c.id == "a"))
            marking = asyncio.create_task(store.deliveries.mark_handed_over(["b", "a"]))
            while not await connection.scalar(text(f"{WAITS} = 'Lock'")):
                await asyncio.sleep(0.02)
            await connection.execute(lock.where(DELIVERIES.c.id == "b"))
        await marking
        assert await store.deliveries.not_handed_over() == {}


async def test_life_of_endpoints_and_a_delivery(store: AccountStore) -> None:
    results = await asyncio.gather(
        *(add_endpoint(store) for _ in range(13)), return_exceptions=True
    )
    assert sum(isinstance(each, Rejected) for each in results) == 3
    endpoints = await store.webhooks.list(PAT.identity)
    assert len(endpoints) == 10
    endpoint = endpoints[0]
    now = datetime.now(UTC)
    delivery_id = await store.webhooks.ping(endpoint.id, now)
    assert await store.deliveries.not_handed_over() == {endpoint.id: [delivery_id]}
    await store.deliveries.mark_handed_over([delivery_id])
    assert [each.id for each in await store.deliveries.due(endpoint.id, now, 5)] == [delivery_id]
    recorded = await store.deliveries.record(delivery_id, FAILED, now)
    assert recorded.next_at
    assert await store.deliveries.due(endpoint.id, now, 5) == []
    assert await store.deliveries.next_at(endpoint.id) == recorded.next_at
    [failed] = await store.webhooks.deliveries(endpoint.id)
    assert (failed.state, failed.response) == (DeliveryState.PENDING, "\ufffd" * 300)
    await store.deliveries.record(delivery_id, Attempt(status_code=204), now)
    await store.webhooks.send_again(endpoint.id, delivery_id, now)
    assert await store.deliveries.next_at(endpoint.id) == now
    await store.deliveries.remove_old(now)
    assert await store.deliveries.overdue(now) == []
    await store.deliveries.hand_over_again(endpoint.id)
    assert await store.deliveries.not_handed_over() == {endpoint.id: [delivery_id]}
    await store.webhooks.delete(endpoint.id)
    assert await written(store, endpoint) == []


async def test_previous_release_runs_on_the_new_schema(
    any_database_url: str, example: dict[str, Any], query_database: QueryDatabase
) -> None:
    await migrate_to(any_database_url, "0018")
    await query_database(any_database_url, OLD_REQUEST)
    await migrate(any_database_url)
    late = OLD_REQUEST.replace("'one'", "'late'")
    await query_database(any_database_url, late)  # by a worker of the previous release
    async with AccountStore.open(any_database_url) as store:
        endpoint = await add_endpoint(store, OPERATOR, for_all_requests=True)
        for name in ("one", "late"):
            await decide(store, name, Status.LAPSED)
        events = await written(store, endpoint)
        assert [(each.request_id, each.sequence) for each in events] == [("late", 1), ("one", 1)]


async def test_second_rotation_replaces_only_the_newest_secret(store: AccountStore) -> None:
    endpoint = await add_endpoint(store)
    until = datetime.now(UTC) + timedelta(hours=24)
    for secret, later in (("second", timedelta()), ("third", timedelta(hours=1))):
        await store.webhooks.rotate_secret(endpoint.id, secret, until + later)
    rotated = await store.webhooks.find(endpoint.id)
    assert rotated
    assert (rotated.sealed_secret, rotated.previous_sealed_secret) == ("third", "sealed")
    assert rotated.previous_secret_until == until


async def test_event_written_while_its_endpoint_is_enabled_is_handed_over(
    postgres: Postgres, example: dict[str, Any]
) -> None:
    url = postgres.new_database()
    await migrate(url)
    async with AccountStore.open(url) as store, asyncio.timeout(60):
        endpoint = await add_endpoint(store)
        await open_request(store, example, "one")
        await store.webhooks.set_state(endpoint.id, EndpointState.PAUSED, NOW)
        async with store.engine.begin() as connection:
            await add_event(connection, "one", EventType.LAPSED, NOW)  # not committed yet
            enabling = asyncio.create_task(
                store.webhooks.set_state(endpoint.id, EndpointState.ENABLED, NOW)
            )
            await asyncio.wait([enabling], timeout=0.5)
        await enabling
        [_, late] = await written(store, endpoint)
        assert await store.deliveries.not_handed_over() == {endpoint.id: [late.id]}


async def test_person_is_erased_while_their_endpoint_gets_an_event(
    postgres: Postgres, example: dict[str, Any]
) -> None:
    """Recording a try needs nothing that the erasure has changed before it needs the endpoint."""
    url = postgres.new_database()
    await migrate(url)
    async with AccountStore.open(url) as store, asyncio.timeout(60):
        endpoint = await add_endpoint(store)
        await open_request(store, example, "one")
        await decide(store, "one", Status.LAPSED)
        [first, _] = await written(store, endpoint)
        found = await store.erasure.find(PAT.email)
        assert [each.request.id for each in found.ended] == ["one"]
        async with store.engine.begin() as connection:
            requests = tables.requests
            await connection.execute(
                select(requests.c.id).where(requests.c.id == "one").with_for_update()
            )
            erasing = asyncio.create_task(store.erasure.erase(found.person, ["one"], NOW))
            while not await connection.scalar(text(f"{WAITS} = 'Lock'")):
                await asyncio.sleep(0.02)
                await connection.execute(text("SELECT pg_stat_clear_snapshot()"))
            await store.deliveries.record(first.id, FAILED, NOW)
        await erasing
        assert await store.webhooks.find(endpoint.id) is None
