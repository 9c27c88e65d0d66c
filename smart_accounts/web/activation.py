"""The customer's pages: look at a request, accept it, decline it.

The token in the path is the capability: there is no session and nothing else to send. GET and
HEAD change nothing; they answer 200 where the request is open, answered or active, 410 where
the link is of no more use, and 404 where there is none. POST answers 303 once Temporal has the
answer, or had the same one before.
"""

import logging
from collections.abc import Awaitable
from datetime import UTC, datetime

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.messages import Decline, Status
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.settings import Settings
from smart_accounts.store.records import ActivationLink, StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.tokens import LinkTokens, token_hash
from smart_accounts.web.http.forms import read_form
from smart_accounts.web.http.origins import comes_from_elsewhere
from smart_accounts.web.rendering import Pages

REFRESH_SECONDS = 2

_GONE = {"superseded", "lapsed", "withdrawn", "undeliverable", "rejected", "expired"}

_log = logging.getLogger(__name__)


def answer_of(request: StoredRequest) -> str | None:
    """What the customer decided, as far as the store has it or knows that Temporal has it."""
    if request.status in (Status.ACTIVATING, Status.ACTIVE):
        return "accepted"
    if request.status is Status.DECLINED:
        return "declined"
    return None if request.status.is_final else request.signalled


def page_of(link: ActivationLink, now: datetime) -> str:
    """Which page a link leads to. An answer that is on its way outlasts the deadline."""
    request = link.request
    if link.is_superseded:  # first: its holder may be another person than today's approver
        return "superseded"
    if request.status.is_final:
        return request.status.value
    if answer_of(request):
        return "received"
    return "open" if now < request.deadline else "expired"


class Activation:
    """The routes under ``/activate/``."""

    def __init__(
        self,
        store: AccountStore,
        client: RequestClient,
        tokens: LinkTokens,
        settings: Settings,
        pages: Pages,
    ) -> None:
        self._store = store
        self._client = client
        self._tokens = tokens
        self._public_url = settings.base_url
        self._page = pages
        self.router = APIRouter(prefix="/activate/{token}", include_in_schema=False)
        for path in ("", "/decline"):  # a page that answered a form may be opened again
            self.router.add_api_route(path, self.show, methods=["GET", "HEAD"])
        self.router.add_api_route("", self.accept, methods=["POST"])
        self.router.add_api_route("/decline", self.decline, methods=["POST"])

    async def show(self, token: str) -> Response:
        return self._show(token, await self._find(token))

    async def accept(self, token: str, request: Request) -> Response:
        form = await self._read(request)
        link = await self._find(token)
        if settled := self._settled(token, link, "accepted"):
            return settled
        if form.get("agree") != "yes":
            message = "Tick this box to accept the account."
            return self._show(token, link, status=422, errors={"agree": message})
        signal = self._client.accept(
            link.request.workflow_id,
            run_id=link.request.id,
            accepted_by=link.request.customer_email,
        )
        return await self._send(token, link, "accepted", signal)

    async def decline(self, token: str, request: Request) -> Response:
        form = await self._read(request)
        link = await self._find(token)
        if settled := self._settled(token, link, "declined"):
            return settled
        reason = form.get("reason", "")
        try:
            refusal = Decline(reason=reason)
        except ValidationError as error:
            message = f"The reason {field_errors(error)[0].message}."
            return self._show(token, link, status=422, errors={"reason": message}, reason=reason)
        signal = self._client.decline(
            link.request.workflow_id, run_id=link.request.id, reason=refusal.reason
        )
        return await self._send(token, link, "declined", signal)

    async def _read(self, request: Request) -> dict[str, str]:
        if comes_from_elsewhere(request.headers, self._public_url):
            raise HTTPException(403)
        return await read_form(request)

    async def _find(self, token: str) -> ActivationLink:
        """The link, if it was issued and is genuine: the same work for whatever is presented."""
        link = await self._store.find_link(token_hash(token))
        request_id, ordinal = (link.request.id, link.ordinal) if link else ("", 0)
        if not self._tokens.is_genuine(token, request_id, ordinal) or link is None:
            raise HTTPException(404)
        return link

    def _show(
        self,
        token: str,
        link: ActivationLink,
        *,
        status: int | None = None,
        errors: dict[str, str] | None = None,
        reason: str = "",
    ) -> Response:
        now = datetime.now(UTC)
        page = page_of(link, now)
        return self._page(
            page,
            status or (410 if page in _GONE else 200),
            self._refreshing(token) if page == "received" else None,
            token=token,
            request=link.request,
            answer=answer_of(link.request),
            left=link.request.deadline - now,
            errors=errors or {},
            reason=reason,
        )

    def _settled(self, token: str, link: ActivationLink, answer: str) -> Response | None:
        """What to say to an answer that can't or needn't be sent on; none if it is awaited."""
        page = page_of(link, datetime.now(UTC))
        if page == "open":
            return None
        if page in _GONE:
            return self._show(token, link)
        if answer_of(link.request) == answer:
            return self._redirect(token)
        return self._page("answered", 409, token=token, request=link.request, answer=answer)

    async def _send(
        self, token: str, link: ActivationLink, answer: str, signal: Awaitable[None]
    ) -> Response:
        try:
            await signal
        except NotFound:
            # The run is closed: decided a moment ago, or terminated from outside.
            link = await self._find(token)
            return self._settled(token, link, answer) or self._page("ended", 410)
        try:
            await self._store.note_signalled(link.request.id, answer)
        except Unavailable:
            # Temporal has the answer, so it counts. The page would ask for it again: say it here.
            _log.warning("answer to request %s received but not noted", link.request.id)
            headers = self._refreshing(token)
            return self._page("received", 200, headers, request=link.request, answer=answer)
        return self._redirect(token)

    def _path(self, token: str) -> str:
        return f"{self._page.root}/activate/{token}"

    def _redirect(self, token: str) -> Response:
        return RedirectResponse(self._path(token), 303)

    def _refreshing(self, token: str) -> dict[str, str]:
        return {"Refresh": f"{REFRESH_SECONDS}; url={self._path(token)}"}
