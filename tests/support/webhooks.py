"""Webhook endpoints in the store, changes that are events, and what was written for them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.steps import OpenRequest
from smart_accounts.contract.webhooks import SUBSCRIBABLE
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Delivery, Endpoint, NewEndpoint
from tests.support.partners import ISSUER, PAT
from tests.support.stored_requests import NOW

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


def request_for(example: dict[str, Any], name: str, **changes: Any) -> SmartAccountRequest:
    return SmartAccountRequest.model_validate(
        example | {"account_domain": f"{name}.example"} | changes
    )


def opening(example: dict[str, Any], name: str, at: datetime = NOW, **more: Any) -> OpenRequest:
    request = request_for(example, more.pop("domain", name))
    identity = {"requester_issuer": ISSUER, "requester_subject": "pat"} | more
    deadline = at + timedelta(days=90)
    return OpenRequest(
        request_id=name, request=request, requested_at=at, deadline=deadline, **identity
    )


async def written(store: AccountStore, endpoint: Endpoint) -> list[Delivery]:
    """Return everything that was written for an endpoint, in the order of the requests' events."""
    deliveries = await store.webhooks.deliveries(endpoint.id, limit=1000)
    return sorted(deliveries, key=lambda each: (each.request_id or "", each.sequence or 0))


async def types(store: AccountStore, endpoint: Endpoint) -> list[str]:
    """Return the types of what was written for an endpoint."""
    return [each.type for each in await written(store, endpoint)]
