"""From the form over the Review Request step to Smart Account Request Complete."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from smart_accounts.checks import oddities
from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RunningRequest
from smart_accounts.web.auth.session import Partner, signed_in
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS
from smart_accounts.web.requests.form import LABELS, RequestForm
from smart_accounts.web.requests.templating import OwnRequests, PartnerPages
from smart_accounts.web.submission import Submission

REFRESH_SECONDS = 2
PATIENCE_SECONDS = 1.0  # a worker usually takes a request up in a tenth of that
POLL_SECONDS = 0.1

SignedIn = Annotated[Partner, Depends(signed_in)]


class NewRequest:
    def __init__(
        self, store: AccountStore, submission: Submission, own: OwnRequests, page: PartnerPages
    ) -> None:
        self._store = store
        self._submission = submission
        self._own = own
        self._page = page
        self.router = APIRouter(prefix="/requests", include_in_schema=False)
        add = self.router.add_api_route
        add("/new", self.new, methods=["GET", "HEAD"])
        add("/new", self.change, methods=["POST"])
        add("/review", self.review, methods=["POST"])
        add("", self.send, methods=["POST"])
        add("/{workflow_id}/complete", self.complete, methods=["GET", "HEAD"])

    async def new(self, request: Request, _: SignedIn) -> Response:
        return self._form(request, RequestForm.of({}))

    async def change(self, request: Request, _: SignedIn) -> Response:
        """Back from the review to the form, nothing lost."""
        return self._form(request, RequestForm.of(await self._page.read(request)))

    async def review(self, request: Request, partner: SignedIn) -> Response:
        form = RequestForm.of(await self._page.read(request))
        try:
            wanted = form.request(partner.requester)
        except BadInput as error:
            return self._form(request, form, 422, errors=error.errors)
        return self._review(request, wanted, form.id)

    async def send(self, request: Request, partner: SignedIn) -> Response:
        form = RequestForm.of(await self._page.read(request))
        try:
            wanted = form.request(partner.requester)
        except BadInput as error:
            return self._form(request, form, 422, errors=error.errors)
        try:
            started = await self._submission.send(wanted, form.key(wanted))
        except Rejected as error:
            open_one = await self._open_one(partner, wanted)
            return self._form(request, form, 409, refused=str(error), open_one=open_one)
        except Unavailable:
            return self._review(request, wanted, form.id, status=503)
        path = f"/requests/{started.workflow_id}/complete?run={started.request_id}"
        return RedirectResponse(self._page.root + path, 303)

    async def complete(
        self, workflow_id: str, request: Request, partner: SignedIn, run: str | None = None
    ) -> Response:
        found = await self._taken_up(partner, workflow_id, run)
        if isinstance(found, RunningRequest):
            headers = {"Refresh": str(REFRESH_SECONDS)}
            return self._page(request, "starting", headers=headers, starting=found)
        if found.status != Status.PENDING:
            return RedirectResponse(self._page.path_of(workflow_id, found.id), 303)
        return self._page(request, "complete", request=found)

    def _form(
        self,
        request: Request,
        form: RequestForm,
        status: int = 200,
        *,
        errors: tuple[FieldError, ...] = (),
        refused: str | None = None,
        open_one: StoredRequest | None = None,
    ) -> Response:
        beside = {name: [each.message for each in errors if each.field == name] for name in LABELS}
        return self._page(
            request,
            "form",
            status,
            form=form,
            labels=LABELS,
            errors=errors,
            beside=beside,
            refused=refused,
            open_one=open_one,
        )

    def _review(
        self,
        request: Request,
        wanted: SmartAccountRequest,
        form_id: str,
        status: int = 200,
    ) -> Response:
        return self._page(
            request,
            "review",
            status,
            {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else None,
            wanted=wanted,
            form=RequestForm.showing(wanted, form_id),
            deadline=datetime.now(UTC) + wanted.acceptance_window,
            oddities=oddities(wanted),
            again=status == 503,
        )

    async def _open_one(
        self, partner: Partner, wanted: SmartAccountRequest
    ) -> StoredRequest | None:
        """The partner's own request that is in the way, to be looked at instead."""
        try:
            newest = await self._store.requests.newest(
                workflow_id(wanted.account_domain), requester_email=partner.requester.email
            )
        except Unavailable:
            return None
        in_the_way = newest and (not newest.status.is_final or newest.status == Status.ACTIVE)
        return newest if in_the_way else None

    async def _taken_up(
        self, partner: Partner, workflow_id: str, run: str | None
    ) -> StoredRequest | RunningRequest:
        """The request, given a moment to be stored: better than a page that says "wait"."""
        give_up_at = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            found = await self._own.find(partner, workflow_id, run)
            is_late = asyncio.get_running_loop().time() > give_up_at
            if isinstance(found, StoredRequest) or is_late:
                return found
            await asyncio.sleep(POLL_SECONDS)
