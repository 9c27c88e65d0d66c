"""From the form through Review Request to Smart Account Request Complete."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from smart_accounts.checks import oddities
from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id as workflow_id_of
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.store.records import StoredRequest
from smart_accounts.web.auth.session import Partner
from smart_accounts.web.dependencies import Services, SessionForm, SignedIn, VisibleRequest, Web
from smart_accounts.web.lookup import find_request
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS
from smart_accounts.web.requests.form import LABELS, RequestForm
from smart_accounts.web.requests.templating import RequestPage, request_path, starting_page

CHECK_SECONDS = 1.0  # a worker usually checks a request within a tenth of that
POLL_SECONDS = 0.1

router = APIRouter(prefix="/requests", include_in_schema=False)


@router.api_route("/new", methods=["GET", "HEAD"])
async def new_form(_: SignedIn, page: RequestPage) -> Response:
    return _form_page(page, RequestForm.of({}))


@router.post("/new")
async def change_form(_: SignedIn, sent: SessionForm, page: RequestPage) -> Response:
    """Go back from the review to the form. Nothing that was typed is lost."""
    return _form_page(page, RequestForm.of(sent))


@router.post("/review")
async def review(partner: SignedIn, sent: SessionForm, page: RequestPage) -> Response:
    form = RequestForm.of(sent)
    try:
        wanted = form.request(partner.requester)
    except BadInput as error:
        return _form_page(page, form, 422, errors=error.errors)
    return _review_page(page, wanted, form.id)


@router.post("")
async def send(partner: SignedIn, sent: SessionForm, page: RequestPage, web: Web) -> Response:
    form = RequestForm.of(sent)
    try:
        wanted = form.request(partner.requester)
    except BadInput as error:
        return _form_page(page, form, 422, errors=error.errors)
    try:
        started = await web.submission.send(wanted, form.key(wanted))
    except Rejected as error:
        own = await _own_request(web, partner, wanted)
        return _form_page(page, form, 409, refused=str(error), open_one=own)
    except Unavailable:
        return _review_page(page, wanted, form.id, status=503)
    path = f"/requests/{started.workflow_id}/complete?run={started.request_id}"
    return RedirectResponse(web.pages.root + path, 303)


@router.api_route("/{workflow_id}/complete", methods=["GET", "HEAD"])
async def complete(
    request: VisibleRequest, partner: SignedIn, page: RequestPage, web: Web
) -> Response:
    # Wait for the system checks, because that is better than a page that says "wait".
    give_up_at = asyncio.get_running_loop().time() + CHECK_SECONDS
    while request.status is Status.REQUESTED:
        if asyncio.get_running_loop().time() > give_up_at:
            return starting_page(page, request)
        await asyncio.sleep(POLL_SECONDS)
        request = await find_request(
            web.store, web.client, partner, request.workflow_id, request.id
        )
    if request.status is not Status.PENDING:
        return RedirectResponse(web.pages.root + request_path(request), 303)
    return page("requests/complete", request=request)


def _form_page(
    page: Callable[..., HTMLResponse],
    form: RequestForm,
    status: int = 200,
    *,
    errors: tuple[FieldError, ...] = (),
    refused: str | None = None,
    open_one: StoredRequest | None = None,
) -> Response:
    beside = {name: [each.message for each in errors if each.field == name] for name in LABELS}
    return page(
        "requests/form",
        status,
        form=form,
        labels=LABELS,
        errors=errors,
        beside=beside,
        refused=refused,
        open_one=open_one,
    )


def _review_page(
    page: Callable[..., HTMLResponse],
    wanted: SmartAccountRequest,
    form_id: str,
    status: int = 200,
) -> Response:
    is_outage = status == 503
    return page(
        "requests/review",
        status,
        {"Retry-After": str(RETRY_AFTER_SECONDS)} if is_outage else None,
        wanted=wanted,
        form=RequestForm.showing(wanted, form_id),
        deadline=datetime.now(UTC) + wanted.acceptance_window,
        oddities=oddities(wanted),
        again=is_outage,
    )


async def _own_request(
    web: Services, partner: Partner, wanted: SmartAccountRequest
) -> StoredRequest | None:
    """Return the partner's own request that holds the domain, so that the page can link to it."""
    try:
        newest = await web.store.listing.newest(
            workflow_id_of(wanted.account_domain), requester_email=partner.email
        )
    except Unavailable:
        return None
    holds_domain = newest and (not newest.status.is_final or newest.status is Status.ACTIVE)
    return newest if holds_domain else None
