"""Webhooks while workers are killed, an endpoint hangs and an operator ends workflows."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.client import Client

from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import webhook_delivery_id
from smart_accounts.contract.webhooks import DeliveryState, EventType
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Endpoint
from smart_accounts.sweep.differences import Kind, Report
from smart_accounts.sweep.sweep import Sweeper
from smart_accounts.temporal.guard import worker_data_converter
from smart_accounts.tokens import LinkTokens
from smart_accounts.webhooks.sender import TIME_LIMIT
from tests.faults.conftest import RequestFor
from tests.support.histories import Keep
from tests.support.keys import KEY
from tests.support.service import Service
from tests.support.subscriber import HANG, TAKE, Subscriber
from tests.support.temporal_server import DevServer, NewDevServer
from tests.support.web_settings import client_settings


@pytest.fixture
async def dev_server(new_dev_server: NewDevServer, tmp_path: Path) -> AsyncIterator[DevServer]:
    """A server that suggests a new run after a few events. By default, it does so after 4096."""
    server = new_dev_server(tmp_path / "temporal.db")
    server.set_dynamic_config("limit.historyCount.suggestContinueAsNew", 10)
    await server.start()
    yield server
    await server.stop(signal.SIGKILL)


@pytest.fixture
async def store(service: Service) -> AsyncIterator[AccountStore]:
    async with AccountStore.open(service.database_url) as opened:
        yield opened


async def until_delivered(store: AccountStore, endpoint: Endpoint, number: int) -> None:
    """Wait until the endpoint was sent so many events, which are all."""
    expected = [DeliveryState.DELIVERED] * number
    async with asyncio.timeout(80):
        while [each.state for each in await store.webhooks.deliveries(endpoint.id)] != expected:
            await asyncio.sleep(0.05)


async def test_no_event_is_lost_and_a_dead_endpoint_delays_nothing(
    service: Service,
    store: AccountStore,
    subscriber: Subscriber,
    request_for: RequestFor,
    keep: Keep,
) -> None:
    good = await subscriber.register(store)
    dead = await subscriber.register(store, "/dead")
    subscriber.reply = HANG
    worker = await service.start_worker()
    started = await service.start(request_for("webhooks"))
    await subscriber.wait_for(1, reply=HANG)
    await subscriber.wait_for(1, "/dead", reply=HANG)
    await service.wait_for(started, Status.PENDING, sent=2)
    delivering = service.temporal.get_workflow_handle(webhook_delivery_id(dead.id))
    first_run = (await delivering.describe()).run_id
    await service.kill(worker)  # both endpoints have the event, and nothing is recorded
    assert [each.attempts for each in await store.webhooks.deliveries(good.id)] == [0]
    await store.webhooks.ping(good.id, datetime.now(UTC))  # no worker can start anything
    subscriber.replies = {"/hooks": TAKE}

    # A worker delivers both events, while the dead endpoint hangs.
    await service.start_worker()
    await until_delivered(store, good, 2)
    written = {each.event_id: each.type for each in await store.webhooks.deliveries(good.id)}
    assert set(written.values()) == {EventType.PENDING, EventType.PING}
    assert {each.id for each in subscriber.taken()} == set(written)
    assert {each.id for each in subscriber.received} == set(written), "copies have the same id"

    # Neither the request nor the other endpoint waits for the dead one.
    await subscriber.wait_for(3, "/dead", reply=HANG)
    began = time.monotonic()
    await service.requests().accept(started.workflow_id)
    await service.wait_for(started, Status.ACTIVE, sent=5)
    await until_delivered(store, good, 3)
    assert time.monotonic() - began < TIME_LIMIT
    assert not subscriber.taken("/dead")

    # A deploy replays the workflow that waits.
    deploy = service.launch("-m", "smart_accounts.admin", "deploy", "--dry-run")
    assert await asyncio.to_thread(deploy.wait, 40) == 0, service.log
    assert re.search("Replayed [1-9]", service.log)

    # An operator terminates the workflow of an endpoint. The sweep starts it again.
    assert (await delivering.describe()).run_id != first_run, "it was continued as new"
    run = service.temporal.get_workflow_handle(delivering.id, run_id=first_run)
    keep("webhook-continued", await run.fetch_history())
    await delivering.terminate()
    subscriber.reply = TAKE
    report = await sweep(service, store)
    found = [(each.kind, each.request_id) for each in report.differences]
    assert found == [(Kind.WEBHOOKS_UNSENT, dead.id)]
    await until_delivered(store, dead, 2)
    assert {each.sequence for each in subscriber.taken("/dead")} == {1, 2}


async def sweep(service: Service, store: AccountStore) -> Report:
    """Run a sweep as if hours had passed."""
    config = service.temporal.config()
    config["data_converter"] = worker_data_converter(client_settings())
    now = datetime.now(UTC) + timedelta(hours=3)
    return await Sweeper(Client(**config), store, LinkTokens([KEY]), now=now).run()
