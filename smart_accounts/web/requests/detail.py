"""One request: its facts and its time line, live."""

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from smart_accounts.contract.messages import RequestStatus, Status
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.settings import Settings
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient, RunningRequest
from smart_accounts.web.activation import answer_of
from smart_accounts.web.auth.session import Partner
from smart_accounts.web.requests.create import REFRESH_SECONDS, SignedIn
from smart_accounts.web.requests.events import changes
from smart_accounts.web.requests.templating import OwnRequests, PartnerPages
from smart_accounts.web.requests.timeline import Known, story

LIVE_SECONDS = 1.0  # what a worker may take to answer before the page does without
NEWS = "news"
"""The cookie that carries which action was done from its form to the page, once."""

DONE = {
    "resend": "A new activation email is on its way. The link before it no longer works.",
    "replace-approver": "The new approver is sent an activation email. The old link is dead.",
    "withdraw": "The request is withdrawn. The customer is told.",
}


class OneRequest:
    def __init__(
        self,
        store: AccountStore,
        client: RequestClient,
        own: OwnRequests,
        settings: Settings,
        page: PartnerPages,
        closing: asyncio.Event,
    ) -> None:
        self._store = store
        self._client = client
        self.own = own
        self._settings = settings
        self._page = page
        self._closing = closing
        self.router = APIRouter(prefix="/requests/{workflow_id}", include_in_schema=False)
        add = self.router.add_api_route
        add("", self.show, methods=["GET", "HEAD"])
        add("/events", self.events, methods=["GET"])

    async def show(
        self, workflow_id: str, request: Request, partner: SignedIn, run: str | None = None
    ) -> Response:
        found = await self.own.find(partner, workflow_id, run)
        if isinstance(found, RunningRequest):
            headers = {"Refresh": str(REFRESH_SECONDS)}
            return self._page(request, "starting", headers=headers, starting=found)
        done = DONE.get(request.cookies.get(NEWS, ""))
        answer = await self.render(request, partner, found, done=done)
        if done:
            answer.delete_cookie(NEWS, path=self.path(found))
        return answer

    async def events(
        self, workflow_id: str, partner: SignedIn, run: str | None = None, seen: str = ""
    ) -> Response:
        found = await self.own.stored(partner, workflow_id, run)
        return StreamingResponse(
            changes(self._store, found.id, seen, self._closing), media_type="text/event-stream"
        )

    async def render(
        self,
        request: Request,
        partner: Partner,
        found: StoredRequest,
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        done: str | None = None,
        problem: dict[str, str] | None = None,
    ) -> Response:
        now = datetime.now(UTC)
        known = await Known.load(self._store, found.id)
        assert known  # no request is ever deleted
        is_settled = known.is_settled(now)
        live = None if is_settled else await self._live(found)
        return self._page(
            request,
            "detail",
            status,
            headers,
            request=known.request,
            version=known.version,
            story=story(known, live),
            is_settled=is_settled,
            can_act=_is_undecided(known.request, live),
            left=found.deadline - now,
            done=done,
            problem=problem,
            typed=getattr(request.state, "form", {}),
            web_ui=self._web_ui(found) if partner.is_operator else None,
        )

    async def _live(self, found: StoredRequest) -> RequestStatus | None:
        try:
            async with asyncio.timeout(LIVE_SECONDS):
                return await self._client.status(found.workflow_id, run_id=found.id)
        except (Rejected, Unavailable, TimeoutError):
            return None  # the store says what matters

    def _web_ui(self, found: StoredRequest) -> str | None:
        if not (url := self._settings.temporal_ui_url):
            return None
        return f"{str(url).rstrip('/')}/workflows/{found.workflow_id}/{found.id}/history"

    def path(self, found: StoredRequest) -> str:
        return f"{self._page.root}/requests/{found.workflow_id}"


def _is_undecided(request: StoredRequest, live: RequestStatus | None) -> bool:
    has_answer = answer_of(request) or (live and live.decided_at)
    return request.status == Status.PENDING and not has_answer
