"""The routes of the API: create, list and get requests, and act on them."""

import asyncio
import re
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Depends, Header, HTTPException, Path, Query, Request, Response
from pydantic import ValidationError, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from smart_accounts.contract import messages
from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.messages import (
    Review,
    ReviewDecision,
    Role,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.names import workflow_id as workflow_id_of
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.store.audit import Action
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.sessions import Partner
from smart_accounts.web.api import responses
from smart_accounts.web.api.bearer import Caller
from smart_accounts.web.api.json_bodies import JsonRoute
from smart_accounts.web.api.models import (
    ActionResult,
    ListQuery,
    NewApprover,
    NewClosing,
    NewRequest,
    Rejection,
    RequestDetail,
    RequestPage,
    RequestSummary,
    RunQuery,
    Withdrawal,
)
from smart_accounts.web.dependencies import Audit, Services, Web
from smart_accounts.web.lookup import actor, find_request, requester_filter
from smart_accounts.web.security_log import Event, Outcome

START_SECONDS = 1.8  # so that the response comes within two seconds while Temporal is down

_KEY = r"^[!-~]{1,64}$"

Key = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "pattern": _KEY}),
    Header(
        alias="Idempotency-Key",
        description="1 to 64 visible ASCII characters that you choose for one request. Sending the"
        " same body with the same key again returns the same request and creates no other one.",
    ),
]
WorkflowId = Annotated[
    str,
    Path(
        description="`smart-account-` and the account's domain.",
        examples=["smart-account-acme.example"],
    ),
]


@dataclass(frozen=True)
class RequestLookup:
    """Finds the request in the path. Routes call ``find``, so that a bad body is reported first."""

    partner: Caller
    workflow_id: WorkflowId
    query: Annotated[RunQuery, Query()]
    web: Web
    audit: Audit
    http_request: Request

    async def find(self) -> StoredRequest:
        return await find_request(
            self.web.store,
            self.web.client,
            self.partner,
            self.workflow_id,
            self.query.request_id,
        )


Lookup = Annotated[RequestLookup, Depends()]

router = APIRouter(
    prefix="/v1/requests",
    tags=["requests"],
    route_class=JsonRoute,
    generate_unique_id_function=lambda route: route.name,
)


@router.post("", summary="Create a request", responses=responses.CREATE, status_code=201)
async def create_request(
    http_request: Request,
    new: NewRequest,
    partner: Caller,
    response: Response,
    web: Web,
    audit: Audit,
    key: Key = None,
) -> RequestDetail:
    """Create a request without waiting for the system checks.

    The status in the response is `requested`, and its times may differ by a moment from the final
    ones. A request that fails the checks becomes `rejected`.
    """
    if key is not None and not re.fullmatch(_KEY, key):
        message = "must be 1 to 64 visible ASCII characters"
        raise BadInput([FieldError(field="Idempotency-Key", message=message)])
    request = _full_request(partner, new)
    workflow_id = workflow_id_of(request.account_domain)
    try:
        async with asyncio.timeout(START_SECONDS):
            with web.security_log.outcome_of(http_request, Event.START, workflow_id):
                key = key or secrets.token_urlsafe()
                started = await web.submission.send(request, key, partner.identity)
            await audit.record(Action.SEND, partner, started.request_id)
            stored = await web.store.requests.find(started.request_id)
    except TimeoutError:
        raise Unavailable(
            "No response yet. The request may still be created. Send it again with the same key."
        ) from None
    stored = stored or StoredRequest.new(
        started.request_id,
        request,
        started.requested_at,
        status=Status.REQUESTED,
        owner=partner.identity,
    )
    location = f"{_path(web)}/{stored.workflow_id}?run={stored.id}"
    response.headers["Location"] = location
    return await _detail(web, stored)


@router.get("", summary="List requests", responses=responses.LIST)
async def list_requests(
    query: Annotated[ListQuery, Query()], partner: Caller, web: Web
) -> RequestPage:
    """List the caller's requests, newest first. Operators get the requests of all partners.

    A new request appears once its system checks have run.
    """
    found = await web.store.listing.page(
        owner=requester_filter(partner),
        status=query.status,
        search=query.search,
        offset=query.offset,
        limit=query.limit,
    )
    has_more = query.offset + len(found.items) < found.total and found.items
    following = query.model_copy(update={"page": query.page + 1})
    parameters = urlencode(following.model_dump(mode="json", exclude_defaults=True))
    return RequestPage(
        items=tuple(RequestSummary.of(each) for each in found.items),
        total=found.total,
        page=query.page,
        limit=query.limit,
        next=f"{_path(web)}?{parameters}" if has_more else None,
    )


@router.get("/{workflow_id}", summary="Get a request", responses=responses.GET)
async def get_request(lookup: Lookup, web: Web) -> RequestDetail:
    """Get the caller's newest request for a domain, or an older one. Operators can get any."""
    return await _detail(web, await lookup.find())


@router.post(
    "/{workflow_id}/resend",
    summary="Resend the activation email",
    responses=responses.ACT_WITHOUT_BODY,
)
async def resend_activation_email(lookup: Lookup, web: Web) -> ActionResult:
    """Send the customer a new activation email. The previous link no longer works."""
    request = await _find_open(lookup)
    by = actor(lookup.partner, request)
    action = web.client.resend(request.workflow_id, run_id=request.id, by=by)
    return await _result(lookup, Action.RESEND, request, action)


@router.post(
    "/{workflow_id}/replace-approver", summary="Replace the approver", responses=responses.ACT
)
async def replace_approver(lookup: Lookup, new: NewApprover, web: Web) -> ActionResult:
    """Ask another person at the customer instead. The deadline does not change."""
    request = await _find_open(lookup)
    given = messages.NewApprover(
        customer_email=new.customer_email, by=actor(lookup.partner, request)
    )
    action = web.client.replace_approver(request.workflow_id, given, run_id=request.id)
    return await _result(lookup, Action.REPLACE_APPROVER, request, action)


@router.post("/{workflow_id}/withdraw", summary="Withdraw a request", responses=responses.ACT)
async def withdraw_request(
    lookup: Lookup,
    web: Web,
    withdrawal: Annotated[Withdrawal | SkipJsonSchema[None], Body()] = None,
) -> ActionResult:
    """Withdraw the request. The customer is told, but not the reason."""
    request = await _find_open(lookup)
    given = messages.Withdrawal(
        reason=withdrawal.reason if withdrawal else None, by=actor(lookup.partner, request)
    )
    action = web.client.withdraw(request.workflow_id, given, run_id=request.id)
    return await _result(lookup, Action.WITHDRAW, request, action)


@router.post(
    "/{workflow_id}/approve", summary="Approve a request", responses=responses.ACT_AS_OPERATOR
)
async def approve_request(lookup: Lookup, web: Web) -> ActionResult:
    """Approve a request in review, as an operator who did not make it."""
    return await _review(lookup, web, ReviewDecision.APPROVE, None)


@router.post(
    "/{workflow_id}/reject",
    summary="Reject a request",
    responses=responses.ACT_AS_OPERATOR | responses.BAD_BODY,
)
async def reject_request(lookup: Lookup, rejection: Rejection, web: Web) -> ActionResult:
    """Reject a request in review, as an operator who did not make it."""
    return await _review(lookup, web, ReviewDecision.REJECT, rejection.reason)


async def _review(
    lookup: RequestLookup, web: Services, decision: ReviewDecision, reason: str | None
) -> ActionResult:
    request = await lookup.find()
    if actor(lookup.partner, request).role is not Role.OPERATOR:
        web.security_log.write(lookup.http_request, Event.ACCESS, Outcome.FAILURE)
        raise HTTPException(403, "Only an operator who did not make the request may review it.")
    review = Review(decision=decision, reason=reason, by=lookup.partner.subject)
    request = await _find_open(lookup)
    action = web.client.review(request.workflow_id, review, run_id=request.id)
    return await _result(lookup, Action(decision), request, action)


@router.post(
    "/{workflow_id}/close",
    summary="Close an account",
    responses=responses.ACT_AS_OPERATOR | responses.BAD_BODY,
)
async def close_account(lookup: Lookup, new: NewClosing, web: Web) -> ActionResult:
    """Close an active account. Only operators may do this.

    Access ends, the domain is free, and everyone who had access is told the reason. The status of
    the request stays `active`. If no worker runs, the account is closed as soon as one does.
    """
    if not lookup.partner.is_operator:
        web.security_log.write(lookup.http_request, Event.ACCESS, Outcome.FAILURE)
        raise HTTPException(403, "Only an operator may close an account.")
    request = await lookup.find()
    by = messages.Actor(role=Role.OPERATOR, subject=lookup.partner.subject)
    closing = messages.Closing(account_domain=request.account_domain, reason=new.reason, by=by)
    return await _result(lookup, Action.CLOSE, request, web.client.close(request.id, closing))


def _path(web: Services) -> str:
    return f"{web.pages.root}/api/v1/requests"


async def _detail(web: Services, request: StoredRequest) -> RequestDetail:
    if request.status is Status.REQUESTED:  # the store does not have it yet
        return RequestDetail.of(request, ())
    return RequestDetail.of(request, await web.store.emails.statuses(request))


async def _find_open(lookup: RequestLookup) -> StoredRequest:
    request = await lookup.find()
    if request.status.is_final:
        raise Rejected(f"Too late: the request is already {request.status}.")
    await lookup.web.client.check()  # during an outage, an action would take longer to fail
    return request


async def _result(
    lookup: RequestLookup,
    name: Action,
    request: StoredRequest,
    action: Awaitable[messages.ActionResult],
) -> ActionResult:
    log, event = lookup.web.security_log, Event(f"request.{name}")
    try:
        with log.outcome_of(lookup.http_request, event, request.workflow_id, request.id):
            result = await action
    except NotFound:
        raise Rejected("Too late: the request has ended.") from None
    role = actor(lookup.partner, request).role
    await lookup.audit.record(name, lookup.partner, request.id, role)
    return ActionResult.of(request, result)


def _full_request(partner: Partner, new: NewRequest) -> SmartAccountRequest:
    try:
        return SmartAccountRequest(**new.model_dump(), requester=partner.requester)
    except ValidationError as error:
        raise BadInput(field_errors(error)) from None
