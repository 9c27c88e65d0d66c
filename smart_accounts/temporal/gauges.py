"""Metrics that are read from the store from time to time, and whether it can be reached."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from temporalio.common import MetricMeter

from smart_accounts.contract.messages import Status
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.readiness import OK, check_dependencies

REFRESH_EVERY = timedelta(seconds=30)
OVERDUE_AFTER = timedelta(minutes=10)
_STORED = [each for each in Status if each not in (Status.REQUESTED, Status.ACTIVATING)]

_log = logging.getLogger(__name__)


@asynccontextmanager
async def keep_gauges(
    meter: MetricMeter, client: RequestClient, store: AccountStore
) -> AsyncIterator[None]:
    """Refresh the gauges until the end of the block. Every process counts the same requests."""
    if meter is MetricMeter.noop:
        yield
        return
    refreshing = asyncio.create_task(_keep_refreshing(meter, client, store))
    try:
        yield
    finally:
        refreshing.cancel()
        await asyncio.wait([refreshing])  # it may be using the store, which is closed next


async def _keep_refreshing(meter: MetricMeter, client: RequestClient, store: AccountStore) -> None:
    while True:
        try:
            await _refresh(meter, client, store)
        except Exception:  # noqa: BLE001 - it is logged, and metrics must not end the process
            _log.exception("could not refresh the metrics")
        await asyncio.sleep(REFRESH_EVERY.total_seconds())


async def _refresh(meter: MetricMeter, client: RequestClient, store: AccountStore) -> None:
    reachable = meter.create_gauge(
        "smart_accounts_reachable", "1 if Temporal or the database can be used, otherwise 0"
    )
    states = await check_dependencies(client, store)
    for dependency, state in states.items():
        reachable.set(int(state == OK), {"dependency": dependency})
    if states["database"] != OK:
        return
    now = datetime.now(UTC)
    requests = meter.create_gauge("smart_accounts_requests", "Requests by status")
    counted = await store.listing.count_by_status()
    for status in _STORED:
        requests.set(counted[status].number if status in counted else 0, {"status": status})
    waiting = counted.get(Status.IN_REVIEW)
    meter.create_gauge_float(
        "smart_accounts_oldest_review_age_seconds", "Age of the oldest request in review"
    ).set((now - waiting.oldest).total_seconds() if waiting else 0)
    overdue = await store.deliveries.overdue(now - OVERDUE_AFTER)
    meter.create_gauge(
        "smart_accounts_webhook_endpoints_overdue", "Endpoints that events should have reached"
    ).set(len(overdue))
