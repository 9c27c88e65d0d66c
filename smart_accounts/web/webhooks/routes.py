"""The list of webhook endpoints, and the form that registers or changes one."""

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from smart_accounts.contract.field_errors import BadInput
from smart_accounts.contract.fields import MAX_DESCRIPTION
from smart_accounts.errors import Rejected
from smart_accounts.store.webhook_records import Endpoint
from smart_accounts.store.webhooks import MAX_ENDPOINTS
from smart_accounts.web.dependencies import AnySessionForm, Page, SignedIn, Web
from smart_accounts.web.http.done_cookie import done_of, forget_done, redirect_with_done
from smart_accounts.web.requests.actions import SIGNED_IN_AGAIN
from smart_accounts.web.webhooks.endpoints import EndpointFields, Endpoints
from smart_accounts.web.webhooks.form import EndpointForm, sentences
from smart_accounts.web.webhooks.labels import ENDPOINT_LABELS, ENDPOINT_TONES, EVENT_LABELS

PATH = "/webhooks"
DELETED = "The endpoint is deleted."

router = APIRouter(prefix=PATH, include_in_schema=False)


async def _webhook_page(page: Page) -> Callable[..., HTMLResponse]:
    return partial(
        page,
        event_labels=EVENT_LABELS,
        endpoint_labels=ENDPOINT_LABELS,
        endpoint_tones=ENDPOINT_TONES,
    )


WebhookPage = Annotated[Callable[..., HTMLResponse], Depends(_webhook_page)]
"""``Page`` with the values that the templates of webhooks need."""


async def _own_endpoints(web: Web, partner: SignedIn, request: Request) -> Endpoints:
    return Endpoints(web, partner, request)


OwnEndpoints = Annotated[Endpoints, Depends(_own_endpoints)]


def endpoint_path(endpoint_id: str) -> str:
    return f"{PATH}/{endpoint_id}"


@router.api_route("", methods=["GET", "HEAD"])
async def list_endpoints(
    request: Request, endpoints: OwnEndpoints, page: WebhookPage, web: Web
) -> Response:
    done = DELETED if done_of(request) == "delete" else None
    response = page(
        "webhooks/listing",
        endpoints=await endpoints.list(),
        max_endpoints=MAX_ENDPOINTS,
        done=done,
    )
    if done:
        forget_done(response, web.settings.base_url, PATH)
    return response


@router.api_route("/new", methods=["GET", "HEAD"])
async def show_form(_: SignedIn, page: WebhookPage) -> Response:
    return _form_page(page, EndpointForm.empty())


@router.post("")
async def register(
    endpoints: OwnEndpoints, sent: AnySessionForm, page: WebhookPage, web: Web
) -> Response:
    form = EndpointForm.of(sent.fields)
    if not sent.is_current:
        return _form_page(page, form, 403, problem=SIGNED_IN_AGAIN)
    try:
        endpoint, secret = await endpoints.register(
            await _fields(form, endpoints, for_all_requests=form.for_all_requests),
            for_all_requests=form.for_all_requests,
            form_id=form.id,
        )
    except BadInput as error:
        return _form_page(page, form, 422, errors=sentences(error))
    except Rejected as error:
        return _form_page(page, form, 409, problem=str(error))
    if secret is None:
        return redirect_with_done(web.settings.base_url, endpoint_path(endpoint.id), "registered")
    return secret_page(page, endpoint, secret, is_rotation=False)


@router.api_route("/{endpoint_id}/change", methods=["GET", "HEAD"])
async def show_change(endpoint_id: str, endpoints: OwnEndpoints, page: WebhookPage) -> Response:
    endpoint = await endpoints.find(endpoint_id)
    return _form_page(page, EndpointForm.of_endpoint(endpoint), endpoint=endpoint)


@router.post("/{endpoint_id}/change")
async def change(
    endpoint_id: str, endpoints: OwnEndpoints, sent: AnySessionForm, page: WebhookPage, web: Web
) -> Response:
    endpoint = await endpoints.find(endpoint_id)
    form = EndpointForm.of(sent.fields)
    if not sent.is_current:
        return _form_page(page, form, 403, problem=SIGNED_IN_AGAIN, endpoint=endpoint)
    try:
        fields = await _fields(form, endpoints, for_all_requests=endpoint.for_all_requests)
        await endpoints.change(endpoint, fields)
    except BadInput as error:
        return _form_page(page, form, 422, errors=sentences(error), endpoint=endpoint)
    return redirect_with_done(web.settings.base_url, endpoint_path(endpoint.id), "change")


async def _fields(
    form: EndpointForm, endpoints: Endpoints, *, for_all_requests: bool
) -> EndpointFields:
    """Return the fields of the form.

    Raises:
        BadInput: The form has errors. Errors of the URL are included.
    """
    try:
        return form.to_fields()
    except BadInput as error:
        errors = error.errors
    try:
        await endpoints.checked_url(form.url, for_all_requests=for_all_requests)
    except BadInput as error:
        errors = (*error.errors, *errors)
    raise BadInput(errors)


def _form_page(
    page: Callable[..., HTMLResponse],
    form: EndpointForm,
    status: int = 200,
    *,
    errors: dict[str, str] | None = None,
    problem: str | None = None,
    endpoint: Endpoint | None = None,
) -> Response:
    return page(
        "webhooks/form",
        status,
        form=form,
        errors=errors or {},
        problem=problem,
        endpoint=endpoint,
        max_description=MAX_DESCRIPTION,
    )


def secret_page(
    page: Callable[..., HTMLResponse], endpoint: Endpoint, secret: str, *, is_rotation: bool
) -> Response:
    """Show a secret once. Every page has ``Cache-Control: no-store``, so no browser keeps it."""
    return page("webhooks/secret", endpoint=endpoint, secret=secret, is_rotation=is_rotation)
