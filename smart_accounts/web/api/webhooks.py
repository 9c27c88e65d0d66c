"""The routes of the API for webhook endpoints and their deliveries."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from smart_accounts.contract.webhooks import EndpointState
from smart_accounts.store.webhook_records import Endpoint
from smart_accounts.web.api import responses
from smart_accounts.web.api.bearer import Caller
from smart_accounts.web.api.json_bodies import JsonRoute
from smart_accounts.web.api.routes import operation_id
from smart_accounts.web.api.webhook_models import (
    NewWebhook,
    QueuedDelivery,
    Webhook,
    WebhookChange,
    WebhookDeliveryList,
    WebhookList,
    WebhookWithSecret,
)
from smart_accounts.web.dependencies import Web
from smart_accounts.web.webhooks.endpoints import Endpoints

router = APIRouter(
    prefix="/v1/webhooks",
    tags=["webhooks"],
    route_class=JsonRoute,
    generate_unique_id_function=operation_id,
)


async def _own_endpoints(web: Web, partner: Caller, request: Request) -> Endpoints:
    return Endpoints(web, partner, request)


OwnEndpoints = Annotated[Endpoints, Depends(_own_endpoints)]


@dataclass(frozen=True)
class EndpointLookup:
    """Finds the endpoint in the path. Routes call ``find`` after they have checked the body."""

    endpoints: OwnEndpoints
    webhook_id: Annotated[str, Path(description="The `id` of the endpoint.")]

    async def find(self) -> Endpoint:
        return await self.endpoints.find(self.webhook_id)


Lookup = Annotated[EndpointLookup, Depends()]


@router.post(
    "", summary="Register a webhook endpoint", responses=responses.REGISTER, status_code=201
)
async def register_webhook(
    new: NewWebhook, endpoints: OwnEndpoints, web: Web, response: Response
) -> WebhookWithSecret:
    """Register an endpoint. The response has its secret, which is never shown again.

    The secret is the key for the signatures, as Standard Webhooks specifies. A partner can have
    ten endpoints. A repeat of the call registers another endpoint.
    """
    endpoint, secret = await endpoints.register(new.fields, for_all_requests=new.for_all_requests)
    assert secret  # only a form can be sent twice
    response.headers["Location"] = f"{web.pages.root}/api/v1/webhooks/{endpoint.id}"
    return WebhookWithSecret.of(endpoint, secret=secret)


@router.get("", summary="List webhook endpoints", responses=responses.LIST_WEBHOOKS)
async def list_webhooks(endpoints: OwnEndpoints) -> WebhookList:
    """List the caller's endpoints. Operators also get those for the requests of all partners."""
    return WebhookList(items=tuple(Webhook.of(each) for each in await endpoints.list()))


@router.get("/{webhook_id}", summary="Get a webhook endpoint", responses=responses.GET_WEBHOOK)
async def get_webhook(lookup: Lookup) -> Webhook:
    """Get an endpoint of the caller, without its secret."""
    return Webhook.of(await lookup.find())


@router.patch(
    "/{webhook_id}", summary="Change a webhook endpoint", responses=responses.CHANGE_WEBHOOK
)
async def change_webhook(change: WebhookChange, lookup: Lookup) -> Webhook:
    """Change an endpoint, or pause or enable it.

    After a pause, what waited is sent, unless it is older than three days. A disabled endpoint
    missed what happened until it is enabled.
    """
    endpoint, endpoints = await lookup.find(), lookup.endpoints
    if change.state is EndpointState.PAUSED:
        endpoints.check_pause(endpoint)  # before anything is saved
    if fields := change.fields_of(endpoint):
        await endpoints.change(endpoint, fields)
    if change.state is EndpointState.PAUSED:
        await endpoints.pause(endpoint)
    elif change.state is EndpointState.ENABLED:
        await endpoints.resume(endpoint)
    return Webhook.of(await lookup.find())


@router.delete(
    "/{webhook_id}",
    summary="Delete a webhook endpoint",
    responses=responses.DELETE_WEBHOOK,
    status_code=204,
)
async def delete_webhook(lookup: Lookup) -> None:
    """Delete an endpoint and its deliveries. Nothing is sent to it any more."""
    await lookup.endpoints.delete(await lookup.find())


@router.post(
    "/{webhook_id}/rotate-secret",
    summary="Make a new secret",
    responses=responses.ACT_ON_WEBHOOK,
)
async def rotate_webhook_secret(lookup: Lookup) -> WebhookWithSecret:
    """Make a new secret. The previous one works for another 24 hours.

    Until then, each message has a signature of both. A new secret that is made within these 24
    hours replaces the newest one at once, and the previous one still works as long as before.
    """
    endpoint, secret = await lookup.endpoints.rotate_secret(await lookup.find())
    return WebhookWithSecret.of(endpoint, secret=secret)


@router.post(
    "/{webhook_id}/ping",
    summary="Send a test event",
    responses=responses.SEND_WEBHOOK,
    status_code=202,
)
async def ping_webhook(lookup: Lookup) -> QueuedDelivery:
    """Send an event of the type `ping`. Its result appears in the deliveries after a moment."""
    endpoint = await lookup.find()
    return QueuedDelivery(delivery_id=await lookup.endpoints.ping(endpoint))


@router.get("/{webhook_id}/deliveries", summary="List deliveries", responses=responses.GET_WEBHOOK)
async def list_webhook_deliveries(lookup: Lookup) -> WebhookDeliveryList:
    """List the last 50 deliveries to an endpoint, newest first."""
    endpoint = await lookup.find()
    return WebhookDeliveryList.of(await lookup.endpoints.deliveries(endpoint))


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/resend",
    summary="Send a delivery again",
    responses=responses.SEND_WEBHOOK,
    status_code=202,
)
async def resend_webhook_delivery(
    lookup: Lookup, delivery_id: Annotated[str, Path(description="The `id` of the delivery.")]
) -> QueuedDelivery:
    """Send the same message again, with the same `webhook-id`."""
    await lookup.endpoints.send_again(await lookup.find(), delivery_id)
    return QueuedDelivery(delivery_id=delivery_id)
