"""The page of one request: its facts, its timeline and its actions."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from smart_accounts.contract.actions import ActionMessage, Role
from smart_accounts.contract.messages import RequestStatus, Status
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.store.records import AccountState, StoredRequest
from smart_accounts.web.auth.session import AUTOMATIC
from smart_accounts.web.dependencies import (
    Audit,
    CheckedRequest,
    OpenSession,
    SignedIn,
    VisibleRequest,
    Web,
)
from smart_accounts.web.http.done_cookie import done_of, forget_done
from smart_accounts.web.lookup import actor
from smart_accounts.web.requests.events import EventStream, changes
from smart_accounts.web.requests.templating import RequestPage, request_path, starting_page
from smart_accounts.web.requests.timeline import Snapshot, timeline

QUERY_SECONDS = 1.0  # how long the page waits for a worker

DONE = {
    "resend": ActionMessage.RESENT,
    "replace-approver": ActionMessage.APPROVER_REPLACED,
    "replace-approver-again": ActionMessage.SAME_APPROVER,
    "withdraw": "The request is withdrawn.",
    "withdraw-again": ActionMessage.WITHDRAWN_BEFORE,
    "approve": ActionMessage.REVIEW_APPROVED,
    "reject": ActionMessage.REVIEW_REJECTED,
    "approve-again": "The request was already approved. Nothing was changed.",
    "reject-again": "The request was already rejected. Nothing was changed.",
    "close": ActionMessage.CLOSED,
    "close-received": ActionMessage.CLOSE_RECEIVED,
}

router = APIRouter(prefix="/requests/{workflow_id}", include_in_schema=False)


@dataclass(frozen=True)
class DetailPage:
    """The page of one request, for the partner who is signed in."""

    web: Web
    partner: SignedIn
    page: RequestPage
    audit: Audit
    http_request: Request

    async def show(
        self,
        request: StoredRequest,
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        done: str | None = None,
        problem: dict[str, str] | None = None,
    ) -> Response:
        now = datetime.now(UTC)
        snapshot = await Snapshot.load(self.web.store, request.id)
        assert snapshot  # the rows of requests are never deleted, only erased
        is_settled = snapshot.is_settled(now)
        workflow_status = None if is_settled else await self._workflow_status(request)
        is_decided = workflow_status is not None and workflow_status.decided_at is not None
        is_in_review = snapshot.request.status is Status.IN_REVIEW and not is_decided
        role = actor(self.partner, request).role
        return self.page(
            "requests/detail",
            status,
            headers,
            request=snapshot.request,
            automatic=AUTOMATIC,
            version=snapshot.version,
            timeline=timeline(snapshot, workflow_status, for_operator=self.partner.is_operator),
            is_settled=is_settled,
            can_act=snapshot.request.awaits_answer and not is_decided,
            can_withdraw=is_in_review,
            can_review=is_in_review and role is Role.OPERATOR,
            can_close=self.partner.is_operator
            and snapshot.request.account_state is AccountState.ACTIVE,
            remaining=request.deadline - now,
            done=done,
            problem=problem,
            typed=getattr(self.http_request.state, "form", {}),
            web_ui=self._web_ui(request) if self.partner.is_operator else None,
            audit_trail=snapshot.audit_trail if self.partner.is_operator else None,
        )

    async def _workflow_status(self, request: StoredRequest) -> RequestStatus | None:
        """Return the status from the workflow, or None if no worker responds."""
        try:
            async with asyncio.timeout(QUERY_SECONDS):
                return await self.web.client.status(request.workflow_id, run_id=request.id)
        except (Rejected, Unavailable, TimeoutError):
            return None

    def _web_ui(self, request: StoredRequest) -> str | None:
        if not (url := self.web.settings.temporal_ui_url):
            return None
        return f"{str(url).rstrip('/')}/workflows/{request.workflow_id}/{request.id}/history"


Detail = Annotated[DetailPage, Depends()]


@router.api_route("", methods=["GET", "HEAD"])
async def show(request: VisibleRequest, detail: Detail) -> Response:
    if request.status is Status.REQUESTED:
        return starting_page(detail.page, request)
    done = DONE.get(done_of(detail.http_request))
    response = await detail.show(request, done=done)
    if done:
        forget_done(response, detail.web.settings.base_url, request_path(request))
    return response


@router.get("/events")
async def events(
    request: CheckedRequest, session: OpenSession, web: Web, seen: str = ""
) -> Response:
    is_signed_in = partial(web.sessions.is_open, session)
    stream = changes(web.store, request.id, seen, web.closing, is_signed_in)
    return EventStream(stream, session.id, web.event_streams)
