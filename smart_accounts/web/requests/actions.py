"""What a requester can do about a request: each action answers in words on the request's page."""

from collections.abc import Awaitable

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from smart_accounts.contract.field_errors import BadInput, field_errors
from smart_accounts.contract.messages import ActionResult, NewApprover, Withdrawal
from smart_accounts.errors import Rejected, SmartAccountsError, Unavailable
from smart_accounts.settings import Settings
from smart_accounts.store.records import StoredRequest
from smart_accounts.temporal.client import RequestClient
from smart_accounts.web.auth.session import Partner
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS
from smart_accounts.web.requests.create import SignedIn
from smart_accounts.web.requests.detail import NEWS, OneRequest
from smart_accounts.web.requests.templating import PartnerPages

NEWS_SECONDS = 60


class Actions:
    def __init__(
        self, client: RequestClient, one: OneRequest, settings: Settings, page: PartnerPages
    ) -> None:
        self._client = client
        self._one = one
        self._page = page
        self._is_https = settings.base_url.startswith("https:")
        self.router = APIRouter(prefix="/requests/{workflow_id}", include_in_schema=False)
        self.router.add_api_route("/resend", self.resend, methods=["POST"])
        self.router.add_api_route("/replace-approver", self.replace_approver, methods=["POST"])
        self.router.add_api_route("/withdraw", self.withdraw, methods=["POST"])

    async def resend(
        self, workflow_id: str, request: Request, partner: SignedIn, run: str | None = None
    ) -> Response:
        await self._page.read(request)
        found = await self._one.own.stored(partner, workflow_id, run)
        doing = self._client.resend(found.workflow_id, run_id=found.id)
        return await self._act(request, partner, found, "resend", doing)

    async def replace_approver(
        self, workflow_id: str, request: Request, partner: SignedIn, run: str | None = None
    ) -> Response:
        form = await self._page.read(request)
        found = await self._one.own.stored(partner, workflow_id, run)
        try:
            new = NewApprover(customer_email=form.get("customer_email", ""))
        except ValidationError as error:
            refusal = BadInput(field_errors(error))
            return await self._refuse(request, partner, found, "replace-approver", refusal)
        doing = self._client.replace_approver(found.workflow_id, new, run_id=found.id)
        return await self._act(request, partner, found, "replace-approver", doing)

    async def withdraw(
        self, workflow_id: str, request: Request, partner: SignedIn, run: str | None = None
    ) -> Response:
        form = await self._page.read(request)
        found = await self._one.own.stored(partner, workflow_id, run)
        try:
            withdrawal = Withdrawal(reason=form.get("reason") or None)
        except ValidationError as error:
            refusal = BadInput(field_errors(error))
            return await self._refuse(request, partner, found, "withdraw", refusal)
        doing = self._client.withdraw(found.workflow_id, withdrawal, run_id=found.id)
        return await self._act(request, partner, found, "withdraw", doing)

    async def _act(
        self,
        request: Request,
        partner: Partner,
        found: StoredRequest,
        action: str,
        doing: Awaitable[ActionResult],
    ) -> Response:
        try:
            await doing
        except (Rejected, BadInput, Unavailable) as error:
            return await self._refuse(request, partner, found, action, error)
        answer = RedirectResponse(self._page.path_of(found.workflow_id, found.id), 303)
        answer.set_cookie(
            NEWS,
            action,
            max_age=NEWS_SECONDS,
            path=self._one.path(found),
            secure=self._is_https,
            httponly=True,
            samesite="lax",
        )
        return answer

    async def _refuse(
        self,
        request: Request,
        partner: Partner,
        found: StoredRequest,
        action: str,
        error: SmartAccountsError,
    ) -> Response:
        """The page again, with what is wrong beside the action, and what was typed."""
        message, status = str(error), 409
        headers = {}
        if isinstance(error, BadInput):
            label = "The reason" if action == "withdraw" else "New approver's email"
            message, status = f"{label} {error.errors[0].message}.", 422
        elif isinstance(error, Unavailable):
            status, headers = 503, {"Retry-After": str(RETRY_AFTER_SECONDS)}
        problem = {"action": action, "message": message}
        return await self._one.render(request, partner, found, status, headers, problem=problem)
