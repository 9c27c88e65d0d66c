"""Webhook endpoints in the store, and the events that wait for them."""

from datetime import UTC, datetime
from typing import Any

from smart_accounts.contract.webhooks import SUBSCRIBABLE
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Delivery, Endpoint, NewEndpoint
from tests.support.partners import PAT

SEALED_SECRET = "sealed"


async def add_endpoint(
    store: AccountStore, owner: Partner = PAT, now: datetime | None = None, **entered: Any
) -> Endpoint:
    """Register an endpoint, by default for all events."""
    sealed_secret = entered.pop("sealed_secret", SEALED_SECRET)
    default = {
        "url": "https://receiver.example/hook",
        "description": "Ours",
        "event_types": SUBSCRIBABLE,
    }
    new = NewEndpoint(**default | entered)
    return await store.webhooks.register(new, owner, sealed_secret, now or datetime.now(UTC))


async def written(store: AccountStore, endpoint: Endpoint) -> list[Delivery]:
    """Return everything that was written for an endpoint, in the order of the requests' events."""
    deliveries = await store.webhooks.deliveries(endpoint.id, limit=1000)
    return sorted(deliveries, key=lambda each: (each.request_id or "", each.sequence or 0))


async def types(store: AccountStore, endpoint: Endpoint) -> list[str]:
    """Return the types of what was written for an endpoint."""
    return [each.type for each in await written(store, endpoint)]
