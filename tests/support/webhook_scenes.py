"""Webhook endpoints and their deliveries at a partner's site, without a worker."""

import re
from datetime import UTC, datetime
from html import unescape

import httpx

from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Attempt, Delivery, Endpoint
from tests.support.page_content import hidden_fields
from tests.support.partner_site import PartnerSite

RECEIVER = "https://93.184.215.14/smart-accounts"
"""An address in place of a name, so that no name server is asked."""
ALL_EVENTS = dict.fromkeys(
    [
        "request.in_review",
        "request.pending",
        "request.active",
        "request.declined",
        "request.lapsed",
        "request.withdrawn",
        "request.undeliverable",
        "request.rejected",
        "request.approver_replaced",
        "email.bounced",
        "account.closed",
    ],
    "yes",
)
REFUSED = Attempt(error="The connection was refused.", took_ms=3)
ACCEPTED = Attempt(status_code=204, response="", took_ms=41)


async def register(site: PartnerSite, url: str = RECEIVER, **fields: str) -> httpx.Response:
    """Open the form, fill it in and send it."""
    form_id = hidden_fields(await site.http.get("/webhooks/new"))["form_id"]
    fields = {"form_id": form_id, "url": url, "description": "Our CRM"} | ALL_EVENTS | fields
    return await site.post("/webhooks", **fields)


def shown_secret(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    [secret] = re.findall(r"<code>(whsec_[^<]+)</code>", response.text)
    return unescape(secret)


async def only_endpoint(site: PartnerSite) -> Endpoint:
    """Return the newest endpoint of the partner who is signed in."""
    return (await endpoints(site))[-1]


async def endpoints(site: PartnerSite) -> list[Endpoint]:
    """Return all endpoints at the site."""
    paths = re.findall(r'href="/webhooks/([0-9a-f-]{36})"', (await site.http.get("/webhooks")).text)
    found = [await site.store.webhooks.find(path) for path in paths]
    return [each for each in found if each]


async def add_delivery(site: PartnerSite, endpoint: Endpoint, *attempts: Attempt) -> Delivery:
    """Send a test event, and record these attempts."""
    delivery_id = await site.store.webhooks.ping(endpoint.id, datetime.now(UTC))
    for attempt in attempts:
        await record_attempt(site.store, delivery_id, attempt)
    found = await site.store.webhooks.deliveries(endpoint.id)
    return next(each for each in found if each.id == delivery_id)


async def record_attempt(store: AccountStore, delivery_id: str, attempt: Attempt) -> None:
    await store.deliveries.record(delivery_id, attempt, datetime.now(UTC))
