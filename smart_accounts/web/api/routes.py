"""The routes of the API: make a request, look at one's own, act on one."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from pydantic import ValidationError, WithJsonSchema

from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.messages import ActionResult, SmartAccountRequest, Status
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient, RunningRequest
from smart_accounts.web.api import responses
from smart_accounts.web.api.bearer import Bearer, Credentials
from smart_accounts.web.api.json_bodies import JsonRoute
from smart_accounts.web.api.models import (
    ActionTaken,
    Approver,
    ListedRequest,
    ListQuery,
    NewRequest,
    Reason,
    RequestPage,
    Run,
    WholeRequest,
)
from smart_accounts.web.auth.session import Partner
from smart_accounts.web.lookup import find_request, not_stored_yet, visible_to
from smart_accounts.web.submission import Submission

START_SECONDS = 1.8  # with Temporal away the answer is there within two

_KEY = r"^[!-~]{1,64}$"


async def caller(request: Request, credentials: Credentials) -> Partner:
    bearer: Bearer = request.app.state.bearer
    return await bearer.partner(credentials)


Caller = Annotated[Partner, Depends(caller)]
Which = Annotated[Run, Query()]
WorkflowId = Annotated[
    str,
    Path(
        description="`smart-account-` and the account's domain.",
        examples=["smart-account-acme.example"],
    ),
]
Key = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "pattern": _KEY}),
    Header(
        alias="Idempotency-Key",
        description="1 to 64 visible ASCII characters that you make up for one request. Sent again"
        " with the same body, it answers that request and makes no second one.",
    ),
]


class RequestRoutes:
    """``root`` is what stands before every path, where the public address has a path."""

    def __init__(
        self, store: AccountStore, client: RequestClient, submission: Submission, root: str
    ) -> None:
        self._store = store
        self._client = client
        self._submission = submission
        self._path = f"{root}/api/v1/requests"
        self.router = APIRouter(
            prefix="/v1/requests",
            route_class=JsonRoute,
            generate_unique_id_function=lambda route: route.name,
        )
        self._add("POST", "", "Make a request", self.create, responses.CREATE, status_code=201)
        self._add("GET", "", "List requests", self.list, responses.LIST)
        one = "/{workflow_id}"
        self._add("GET", one, "Show a request", self.show, responses.SHOW)
        resend, replace, withdraw = self.resend, self.replace_approver, self.withdraw
        self._add("POST", f"{one}/resend", "Resend the email", resend, responses.RESEND)
        self._add("POST", f"{one}/replace-approver", "Replace the approver", replace, responses.ACT)
        self._add("POST", f"{one}/withdraw", "Withdraw a request", withdraw, responses.ACT)

    def _add(
        self,
        method: str,
        path: str,
        summary: str,
        answer: Callable[..., Awaitable[Any]],
        described: responses.Answers,
        status_code: int = 200,
    ) -> None:
        self.router.add_api_route(
            path,
            answer,
            methods=[method],
            summary=summary,
            responses=described,
            status_code=status_code,
        )

    async def create(
        self, wish: NewRequest, partner: Caller, response: Response, key: Key = None
    ) -> WholeRequest:
        """
        The answer does not wait for the system checks: its status is `requested`, and its times
        may be a moment off. A request that they refuse becomes `rejected`.
        """
        if key is not None and not re.fullmatch(_KEY, key):
            message = "must be 1 to 64 visible ASCII characters"
            raise BadInput([FieldError(field="Idempotency-Key", message=message)])
        request = _made_by(partner, wish)
        try:
            async with asyncio.timeout(START_SECONDS):
                started = await self._submission.send(request, key or secrets.token_urlsafe())
                stored = await self._store.find_request(started.request_id)
        except TimeoutError:
            raise Unavailable(
                "No answer yet. It may still be made: send the same again, with the same key."
            ) from None
        begun = RunningRequest(
            started.workflow_id, started.request_id, started.requested_at, request
        )
        shown = await self._whole(stored or not_stored_yet(begun))
        response.headers["Location"] = f"{self._path}/{shown.workflow_id}?run={shown.request_id}"
        return shown

    async def list(self, query: Annotated[ListQuery, Query()], partner: Caller) -> RequestPage:
        """List the caller's requests, newest first; an operator's list has everybody's.

        A new request stands here once its system checks have run.
        """
        found = await self._store.requests.page(
            requester_email=visible_to(partner),
            status=query.status,
            search=query.search,
            offset=query.offset,
            limit=query.limit,
        )
        more = query.offset + len(found.items) < found.total and found.items
        next_one = query.model_copy(update={"page": query.page + 1})
        parameters = urlencode(next_one.model_dump(mode="json", exclude_defaults=True))
        return RequestPage(
            items=tuple(ListedRequest.of(each) for each in found.items),
            total=found.total,
            page=query.page,
            limit=query.limit,
            next=f"{self._path}?{parameters}" if more else None,
        )

    async def show(self, workflow_id: WorkflowId, which: Which, partner: Caller) -> WholeRequest:
        """Show the caller's newest request of a domain, or an older one; an operator sees any."""
        return await self._whole(await self._find(partner, workflow_id, which))

    async def resend(self, workflow_id: WorkflowId, which: Which, partner: Caller) -> ActionTaken:
        """Send the customer a new activation email; the link before it is dead."""
        return await self._act(
            partner,
            workflow_id,
            which,
            lambda found: self._client.resend(found.workflow_id, run_id=found.id),
        )

    async def replace_approver(
        self, workflow_id: WorkflowId, which: Which, new: Approver, partner: Caller
    ) -> ActionTaken:
        """Ask another person of the customer's instead; the deadline stays."""
        return await self._act(
            partner,
            workflow_id,
            which,
            lambda found: self._client.replace_approver(found.workflow_id, new, run_id=found.id),
        )

    async def withdraw(
        self,
        workflow_id: WorkflowId,
        which: Which,
        partner: Caller,
        reason: Annotated[Reason | None, Body()] = None,
    ) -> ActionTaken:
        """Take the request back. The customer is told, but not the reason."""
        given = reason or Reason()
        return await self._act(
            partner,
            workflow_id,
            which,
            lambda found: self._client.withdraw(found.workflow_id, given, run_id=found.id),
        )

    async def _find(self, partner: Partner, workflow_id: str, which: Run) -> StoredRequest:
        found = await find_request(
            self._store, self._client, partner, workflow_id, which.request_id
        )
        return not_stored_yet(found) if isinstance(found, RunningRequest) else found

    async def _whole(self, stored: StoredRequest) -> WholeRequest:
        if stored.status is Status.REQUESTED:  # the store has none of it yet
            return WholeRequest.of(stored, ())
        return WholeRequest.of(stored, await self._store.emails_of(stored))

    async def _act(
        self,
        partner: Partner,
        workflow_id: str,
        which: Run,
        act: Callable[[StoredRequest], Awaitable[ActionResult]],
    ) -> ActionTaken:
        found = await self._find(partner, workflow_id, which)
        if found.status.is_final:
            raise Rejected(f"Too late: the request is {found.status} already.")
        await self._client.check()  # an action waits longer for a worker than for Temporal
        try:
            return ActionTaken.of(found, await act(found))
        except NotFound:
            raise Rejected("Too late: the request has ended.") from None


def _made_by(partner: Partner, wish: NewRequest) -> SmartAccountRequest:
    try:
        return SmartAccountRequest(**wish.model_dump(), requester=partner.requester)
    except ValidationError as error:
        raise BadInput(field_errors(error)) from None
