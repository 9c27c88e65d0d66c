"""The page of one webhook endpoint, and the actions on it."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from smart_accounts.contract.webhooks import DeliveryState
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.store.webhook_records import Delivery, Endpoint
from smart_accounts.web.dependencies import AnySessionForm, Responded, Web
from smart_accounts.web.http.done_cookie import done_of, forget_done, redirect_with_done
from smart_accounts.web.requests.actions import SIGNED_IN_AGAIN
from smart_accounts.web.webhooks.labels import DeliveryRow
from smart_accounts.web.webhooks.routes import (
    PATH,
    OwnEndpoints,
    WebhookPage,
    endpoint_path,
    secret_page,
)

RESULT_SECONDS = 3.0  # a delivery usually takes one second to begin
POLL_SECONDS = 0.2

DONE = {
    "registered": "This endpoint is registered already. Its secret was shown once. If you did not"
    " copy the secret, make a new one.",
    "change": "The changes are saved.",
    "ping": "The test event is sent. See the result below.",
    "resend": "The message is sent again. See the result below.",
    "pause": "The endpoint is paused.",
    "resume": "The endpoint is enabled.",
}
_SENT = ("ping", "resend")

router = APIRouter(prefix=f"{PATH}/{{endpoint_id}}", include_in_schema=False)


@dataclass(frozen=True)
class EndpointPage:
    """The page of the endpoint in the path."""

    endpoint_id: str
    endpoints: OwnEndpoints
    page: WebhookPage
    web: Web
    request: Request

    async def endpoint(self) -> Endpoint:
        return await self.endpoints.find(self.endpoint_id)

    async def show(
        self,
        status: int = 200,
        *,
        done: str = "",
        problem: str | None = None,
    ) -> Response:
        endpoint = await self.endpoint()
        deliveries = await self._deliveries(endpoint, waits=done in _SENT)
        until = endpoint.previous_secret_until
        return self.page(
            "webhooks/detail",
            status,
            endpoint=endpoint,
            deliveries=[DeliveryRow.of(each, endpoint) for each in deliveries],
            has_two_secrets=until is not None and until > datetime.now(UTC),
            done=DONE.get(done),
            problem=problem,
        )

    async def _deliveries(self, endpoint: Endpoint, *, waits: bool) -> Sequence[Delivery]:
        """Return the last deliveries. If one was just sent, wait for its result for a moment."""
        give_up_at = asyncio.get_running_loop().time() + RESULT_SECONDS
        while True:
            found = await self.endpoints.deliveries(endpoint)
            is_over = asyncio.get_running_loop().time() > give_up_at
            if not waits or is_over or not any(map(_is_due, found)):
                return found
            await asyncio.sleep(POLL_SECONDS)

    async def do(self, name: str, action: Awaitable[object]) -> Response:
        """Do an action, and redirect to the page, which says what was done."""
        try:
            await action
        except NotFound:
            raise
        except Rejected as error:
            return await self.show(409, problem=str(error))
        path = endpoint_path(self.endpoint_id)
        return redirect_with_done(self.web.settings.base_url, path, name)


def _is_due(delivery: Delivery) -> bool:
    return delivery.state is DeliveryState.PENDING and delivery.next_at <= datetime.now(UTC)


Shown = Annotated[EndpointPage, Depends()]


async def _endpoint_of_form(sent: AnySessionForm, shown: Shown) -> Endpoint:
    if not sent.is_current:
        raise Responded(await shown.show(403, problem=SIGNED_IN_AGAIN))
    return await shown.endpoint()


FormEndpoint = Annotated[Endpoint, Depends(_endpoint_of_form)]
"""The endpoint in the path, of a form that a page of this session sent."""


@router.api_route("", methods=["GET", "HEAD"])
async def show(shown: Shown) -> Response:
    done = done_of(shown.request)
    response = await shown.show(done=done)
    if done:
        forget_done(response, shown.web.settings.base_url, endpoint_path(shown.endpoint_id))
    return response


@router.post("/ping")
async def ping(endpoint: FormEndpoint, shown: Shown) -> Response:
    return await shown.do("ping", shown.endpoints.ping(endpoint))


@router.post("/pause")
async def pause(endpoint: FormEndpoint, shown: Shown) -> Response:
    return await shown.do("pause", shown.endpoints.pause(endpoint))


@router.post("/resume")
async def resume(endpoint: FormEndpoint, shown: Shown) -> Response:
    return await shown.do("resume", shown.endpoints.resume(endpoint))


@router.post("/rotate-secret")
async def rotate_secret(endpoint: FormEndpoint, shown: Shown) -> Response:
    rotated, secret = await shown.endpoints.rotate_secret(endpoint)
    return secret_page(shown.page, rotated, secret, is_rotation=True)


@router.post("/delete")
async def delete(endpoint: FormEndpoint, shown: Shown) -> Response:
    await shown.endpoints.delete(endpoint)
    return redirect_with_done(shown.web.settings.base_url, PATH, "delete")


@router.post("/deliveries/{delivery_id}/resend")
async def send_again(delivery_id: str, endpoint: FormEndpoint, shown: Shown) -> Response:
    return await shown.do("resend", shown.endpoints.send_again(endpoint, delivery_id))
