"""The routes of the API that create, list and get requests."""

import asyncio
import re
import secrets
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError, WithJsonSchema

from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id as workflow_id_of
from smart_accounts.errors import Unavailable
from smart_accounts.store.audit import Action
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.request_view import RequestDetail
from smart_accounts.store.sessions import Partner
from smart_accounts.web.api import responses
from smart_accounts.web.api.bearer import Caller
from smart_accounts.web.api.json_bodies import JsonRoute
from smart_accounts.web.api.models import (
    ListQuery,
    NewRequest,
    RequestPage,
    RequestSummary,
    RunQuery,
)
from smart_accounts.web.dependencies import Audit, Services, Web
from smart_accounts.web.lookup import find_request, requester_filter
from smart_accounts.web.security_log import Event

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

PREFIX = "/v1/requests"


def operation_id(route: APIRoute) -> str:
    return route.name


router = APIRouter(
    prefix=PREFIX,
    tags=["requests"],
    route_class=JsonRoute,
    generate_unique_id_function=operation_id,
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


def _path(web: Services) -> str:
    return f"{web.pages.root}/api/v1/requests"


async def _detail(web: Services, request: StoredRequest) -> RequestDetail:
    if request.status is Status.REQUESTED:  # the store does not have it yet
        return RequestDetail.of(request, ())
    return RequestDetail.of(request, await web.store.emails.statuses(request))


def _full_request(partner: Partner, new: NewRequest) -> SmartAccountRequest:
    try:
        return SmartAccountRequest(**new.model_dump(), requester=partner.requester)
    except ValidationError as error:
        raise BadInput(field_errors(error)) from None
