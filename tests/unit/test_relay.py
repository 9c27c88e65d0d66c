"""How deliveries get from the database to Temporal."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.names import webhook_delivery_id
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal import relay
from smart_accounts.temporal.relay import relay_webhooks
from tests.support.webhooks import add_endpoint

DOWN = RPCError("connection refused", RPCStatusCode.UNAVAILABLE, b"")


class Temporal:
    """Takes the starts of workflows, except of those in ``errors``."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.tried = 0
        self.errors: dict[str, Exception] = {}

    async def start_workflow(self, *_: Any, id: str, start_signal: str, **__: Any) -> None:  # noqa: A002 - Temporal's name
        assert start_signal == "deliveries_waiting"
        self.tried += 1
        if id in self.errors:
            raise self.errors[id]
        self.started.append(id)


async def until(is_done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(40):
        while not await is_done():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "RELAY_EVERY", timedelta(milliseconds=10))


async def test_rejected_endpoint_delays_no_other_and_is_logged_once(
    store: AccountStore, caplog: pytest.LogCaptureFixture
) -> None:
    temporal = Temporal()
    first, second = await add_endpoint(store), await add_endpoint(store)
    for endpoint in (first, second):
        await store.webhooks.ping(endpoint.id, datetime.now(UTC))
    temporal.errors = {webhook_delivery_id(first.id): DOWN}
    async with relay_webhooks(temporal, store):  # type: ignore[arg-type] # a fake

        async def is_tried_often() -> bool:
            return temporal.tried > 5

        await until(is_tried_often)
        assert temporal.started == [webhook_delivery_id(second.id)]
        assert list(await store.deliveries.not_handed_over()) == [first.id]
        [record] = caplog.records
        assert record.message == (
            "webhook deliveries wait in the database: Temporal does not respond. Nothing was lost;"
            " try again."
        )
        temporal.errors = {}

        async def is_handed_over() -> bool:
            return not await store.deliveries.not_handed_over()

        await until(is_handed_over)
    assert temporal.started == [webhook_delivery_id(each.id) for each in (second, first)]


async def test_any_other_error_is_logged_without_its_text(
    store: AccountStore, caplog: pytest.LogCaptureFixture
) -> None:
    temporal = Temporal()
    endpoint = await add_endpoint(store)
    await store.webhooks.ping(endpoint.id, datetime.now(UTC))
    temporal.errors = {webhook_delivery_id(endpoint.id): KeyError("ada@acme.example")}
    async with relay_webhooks(temporal, store):  # type: ignore[arg-type] # a fake

        async def is_logged() -> bool:
            return bool(caplog.records)

        await until(is_logged)
    [record] = caplog.records
    assert record.message == "webhook deliveries wait in the database"
    assert record.exc_info
