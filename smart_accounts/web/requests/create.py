"""Create a request: the form, Review Request and Smart Account Request Complete."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from smart_accounts.checks import reasons_for_review
from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id as workflow_id_of
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.store.audit import Action
from smart_accounts.store.drafts import Draft
from smart_accounts.store.records import AccountState, StoredRequest
from smart_accounts.store.sessions import Partner
from smart_accounts.temporal.logs import with_cause
from smart_accounts.web.dependencies import (
    AnySessionForm,
    Audit,
    Responded,
    Services,
    SignedIn,
    VisibleRequest,
    Web,
)
from smart_accounts.web.lookup import find_request
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS
from smart_accounts.web.requests import drafts
from smart_accounts.web.requests.drafts import redirect_to_form
from smart_accounts.web.requests.form import LABELS, RequestForm, is_form_id
from smart_accounts.web.requests.templating import RequestPage, request_path, starting_page
from smart_accounts.web.security_log import Event

CHECK_SECONDS = 1.0  # a worker usually checks a request within a tenth of this
POLL_SECONDS = 0.1

_log = logging.getLogger(__name__)

router = APIRouter(prefix="/requests", include_in_schema=False)


async def _new_request_form(partner: SignedIn, sent: AnySessionForm, web: Web) -> RequestForm:
    form = RequestForm.of(sent.fields)
    if not sent.is_current:
        await drafts.save(web, partner, form, is_late=True)
        raise Responded(redirect_to_form(web, form.id))
    return form


NewRequestForm = Annotated[RequestForm, Depends(_new_request_form)]
"""The form that was sent. If another session opened it, it is kept and shown again instead."""


@router.api_route("/new", methods=["GET", "HEAD"])
async def show_form(partner: SignedIn, page: RequestPage, web: Web, draft: str = "") -> Response:
    """Show a form. Its address has the id of its draft, so that the browser can go back to it."""
    if not is_form_id(draft):
        return redirect_to_form(web)
    stored = await drafts.find(web, partner, draft)
    if stored is None:
        return _form_page(page, Draft(id=draft, fields={}))
    try:
        request = drafts.form_of(stored).to_request(partner.requester)
    except BadInput as error:
        return _form_page(page, stored, 422, errors=error.errors)
    if stored.rejection is None:
        return _form_page(page, stored)
    return _form_page(page, stored, 409, existing=await _own_request(web, partner, request))


@router.post("/new")
async def change(partner: SignedIn, form: NewRequestForm, web: Web) -> Response:
    """Go back from the review to the form, with everything that was typed."""
    await drafts.save(web, partner, form)
    return redirect_to_form(web, form.id)


@router.post("/review")
async def keep_form(partner: SignedIn, form: NewRequestForm, web: Web) -> Response:
    await drafts.save(web, partner, form)
    return RedirectResponse(f"{web.pages.root}/requests/review/{form.id}", 303)


@router.api_route("/review/{draft_id}", methods=["GET", "HEAD"])
async def review(draft_id: str, partner: SignedIn, page: RequestPage, web: Web) -> Response:
    draft = await drafts.find(web, partner, draft_id)
    if draft is None:
        raise NotFound("There is no such draft.")
    try:
        request = drafts.form_of(draft).to_request(partner.requester)
    except BadInput:
        return redirect_to_form(web, draft_id)
    if draft.rejection:
        return redirect_to_form(web, draft_id)
    return _review_page(page, request, draft_id)


@router.post("")
async def send(
    http_request: Request,
    partner: SignedIn,
    form: NewRequestForm,
    page: RequestPage,
    web: Web,
    audit: Audit,
) -> Response:
    try:
        request = form.to_request(partner.requester)
    except BadInput:
        return await change(partner, form, web)
    try:
        workflow_id, key = workflow_id_of(request.account_domain), form.idempotency_key(request)
        with web.security_log.outcome_of(http_request, Event.START, workflow_id):
            started = await web.submission.send(request, key, partner.identity)
        await audit.record(Action.SEND, partner, started.request_id)
    except Rejected as error:
        await drafts.save(web, partner, form, rejection=str(error))
        return redirect_to_form(web, form.id)
    except Unavailable as error:
        _log.warning("responded 503: %s", with_cause(error))
        return _review_page(page, request, form.id, status=503)
    path = f"/requests/{started.workflow_id}/complete?run={started.request_id}"
    return RedirectResponse(web.pages.root + path, 303)


@router.api_route("/{workflow_id}/complete", methods=["GET", "HEAD"])
async def complete(
    request: VisibleRequest, partner: SignedIn, page: RequestPage, web: Web
) -> Response:
    # Wait for the system checks for a moment, so that most users never see the starting page.
    give_up_at = asyncio.get_running_loop().time() + CHECK_SECONDS
    while request.status is Status.REQUESTED:
        if asyncio.get_running_loop().time() > give_up_at:
            return starting_page(page, request)
        await asyncio.sleep(POLL_SECONDS)
        request = await find_request(
            web.store, web.client, partner, request.workflow_id, request.id
        )
    if request.status not in (Status.PENDING, Status.IN_REVIEW):
        return RedirectResponse(web.pages.root + request_path(request), 303)
    return page("requests/complete", request=request)


def _form_page(
    page: Callable[..., HTMLResponse],
    draft: Draft,
    status: int = 200,
    *,
    errors: tuple[FieldError, ...] = (),
    existing: StoredRequest | None = None,
) -> Response:
    field_errors = {
        name: [error.message for error in errors if error.field == name] for name in LABELS
    }
    return page(
        "requests/form",
        status,
        form=drafts.form_of(draft),
        labels=LABELS,
        errors=errors,
        field_errors=field_errors,
        rejected=draft.rejection,
        is_late=draft.is_late,
        existing=existing,
    )


def _review_page(
    page: Callable[..., HTMLResponse],
    request: SmartAccountRequest,
    form_id: str,
    status: int = 200,
) -> Response:
    is_outage = status == 503
    return page(
        "requests/review",
        status,
        {"Retry-After": str(RETRY_AFTER_SECONDS)} if is_outage else None,
        request=request,
        form=RequestForm.from_request(request, form_id),
        deadline=datetime.now(UTC) + request.acceptance_window,
        warnings=reasons_for_review(request),
        is_outage=is_outage,
        responds_to_form=is_outage,
    )


async def _own_request(
    web: Services, partner: Partner, request: SmartAccountRequest
) -> StoredRequest | None:
    """Return the partner's own request that holds the domain, so that the page can link to it."""
    try:
        newest = await web.store.listing.newest(
            workflow_id_of(request.account_domain), owner=partner.identity
        )
    except Unavailable:
        return None
    holds_domain = newest and newest.account_state in (
        AccountState.PROVISIONAL,
        AccountState.ACTIVE,
    )
    return newest if holds_domain else None
