"""Hand over the webhook deliveries that wait in the database to Temporal."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.client import Client

from smart_accounts.contract.names import TASK_QUEUE, WEBHOOK_DELIVERY_TYPE, webhook_delivery_id
from smart_accounts.contract.webhooks import DeliverWebhooks
from smart_accounts.errors import Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.errors import RPC_TIMEOUT, time_limit

RELAY_EVERY = timedelta(seconds=1)

_log = logging.getLogger(__name__)


@asynccontextmanager
async def relay_webhooks(client: Client, store: AccountStore) -> AsyncIterator[None]:
    """Hand over waiting deliveries until the end of the block. Every worker does this."""
    relaying = asyncio.create_task(_keep_relaying(client, store))
    try:
        yield
    finally:
        relaying.cancel()
        await asyncio.wait([relaying])  # it may be using the store, which is closed next


async def _keep_relaying(client: Client, store: AccountStore) -> None:
    last = None
    while True:
        problem = None
        try:
            await _relay(client, store)
        except Exception as error:  # noqa: BLE001 - it is logged, and must not end the relay
            problem = f"{type(error).__name__}: {error}"
            if problem != last:  # once for each outage
                if isinstance(error, Unavailable):  # the text is our own and names nobody
                    _log.warning("webhook deliveries wait in the database: %s", error)
                else:
                    _log.warning("webhook deliveries wait in the database", exc_info=True)
        last = problem
        await asyncio.sleep(RELAY_EVERY.total_seconds())


async def _relay(client: Client, store: AccountStore) -> None:
    waiting, problem = await store.deliveries.not_handed_over(), None
    for endpoint_id, deliveries in waiting.items():
        try:
            await _start_delivery(client, endpoint_id)
            # Only these, because another one may have been written meanwhile.
            await store.deliveries.mark_handed_over(deliveries)
        except Exception as error:  # noqa: BLE001 - it must not delay the other endpoints
            problem = error
    if problem:
        raise problem


async def _start_delivery(client: Client, endpoint_id: str) -> None:
    """Start the delivery workflow of an endpoint, or tell it that more deliveries wait."""
    async with time_limit(RPC_TIMEOUT):
        await client.start_workflow(
            WEBHOOK_DELIVERY_TYPE,
            DeliverWebhooks(endpoint_id=endpoint_id),
            id=webhook_delivery_id(endpoint_id),
            task_queue=TASK_QUEUE,
            start_signal="deliveries_waiting",
            static_summary="Deliver the events of a webhook endpoint",
            rpc_timeout=RPC_TIMEOUT,
        )
