"""The pages for partners: the web application, a signed-in partner and a fake Temporal."""

import re
import socket
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from smart_accounts.contract.actions import Actor, Closing, Role
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailKind, EmailState, SmartAccountRequest, Status
from smart_accounts.contract.steps import (
    Addressee,
    Approve,
    CloseAccount,
    Decision,
    Email,
    EmailOutcome,
    OpenRequest,
    RecordDecision,
)
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from smart_accounts.web.dependencies import Services
from tests.support.fake_temporal import FakeTemporal
from tests.support.ledger import add_email
from tests.support.limits import new_limits
from tests.support.partners import PAT, services_of, session_cookie

LIMITS = new_limits(open_per_customer=500, emails_per_mailbox_per_day=5000)
HOUR = timedelta(hours=1)
ACME_PAGE = "/requests/smart-account-acme.example"
"""The page of the request that ``FORM`` makes."""
CLOSING = Closing(
    account_domain="acme.example",
    reason="The company was sold and asked us to close its account.",
    by=Actor(role=Role.OPERATOR, subject="opal"),
)
FORM = {
    "account_name": "Acme Networks",
    "customer_email": "ada@acme.example",
    "account_domain": "",
    "note_to_customer": "As agreed.\r\nSoon.",
    "user_emails": "bo@acme.example",
    "note_to_added_users": "Welcome.",
}


@dataclass
class PartnerSite:
    """The web application as one partner uses it, and what a worker does meanwhile."""

    app: FastAPI
    store: AccountStore
    temporal: FakeTemporal
    url: str
    listener: socket.socket
    http: httpx.AsyncClient = field(init=False)
    cookie: bytes = b""
    """The session cookie, which ``app_with_cookie`` adds to the request of every browser."""

    @property
    def services(self) -> Services:
        return services_of(self.app)

    # ---- the partner ---------------------------------------------------------------------

    async def sign_in(self, partner: Partner) -> None:
        self.cookie = "=".join(await session_cookie(self.app, partner)).encode()

    def sign_out(self) -> None:
        self.cookie = b""

    async def app_with_cookie(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*scope.get("headers", []), (b"cookie", self.cookie)]
        await self.app({**scope, "headers": headers}, receive, send)

    async def csrf_token(self) -> str:
        page = (await self.http.get("/requests")).text
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        assert found
        return found[1]

    async def post(self, path: str, **form: str) -> httpx.Response:
        """Send a form with the CSRF token of the session."""
        return await self.http.post(path, data=form | {"csrf": await self.csrf_token()})

    async def submit(self, path: str, **form: str) -> httpx.Response:
        """Send a form as ``post`` does. Return the page to which the response redirects."""
        response = await self.post(path, **form)
        while response.status_code == 303:
            response = await self.http.get(response.headers["location"])
        return response

    async def open_form(self) -> httpx.Response:
        """Open an empty request form."""
        return await self.http.get("/requests/new", follow_redirects=True)

    @property
    def actions(self) -> list[tuple[str, str | None]]:
        """The actions that Temporal received, with their arguments."""
        return [(name, argument) for name, argument, *_ in self.temporal.actions]

    # ---- the worker ----------------------------------------------------------------------

    async def store_running_requests(self) -> list[str]:
        """Store the requests that Temporal has. Return their ids."""
        ids = []
        for running, key in list(self.temporal.running.values()):
            await self.add_request(
                running.request, running.request_id, key=key, owner=running.owner
            )
            ids.append(running.request_id)
        return ids

    async def add_request(
        self,
        request: SmartAccountRequest,
        run: str | None = None,
        *,
        key: str | None = None,
        owner: Identity | None = PAT.identity,
        at: datetime | None = None,
        needs_attention: tuple[str, ...] = (),
        is_approved: bool = True,
    ) -> str:
        """Store a request and return its id. One that needs attention needs a review first."""
        run, at = run or str(uuid.uuid4()), at or datetime.now(UTC)
        new = OpenRequest(
            request_id=run,
            request=request,
            requested_at=at,
            deadline=at + request.acceptance_window,
            idempotency_key=key,
            requester_issuer=owner.issuer if owner else None,
            requester_subject=owner.subject if owner else None,
        )
        await self.store.requests.open(new, needs_attention, LIMITS)
        if needs_attention and is_approved:
            await self.store.requests.approve(Approve(request_id=run, at=at + HOUR))
        return run

    async def record_decision(self, run: str, decision: Decision) -> None:
        record = RecordDecision(request_id=run, decision=decision)
        if decision.status is Status.ACTIVE:
            await self.store.requests.activate(record)
        else:
            await self.store.requests.close(record)

    async def close_account(self, run: str, at: datetime) -> None:
        """Record that an operator closed an account."""
        close = CloseAccount(request_id=run, closing=CLOSING, at=at)
        await self.store.requests.close_account(close)

    async def record_email(
        self,
        run: str,
        kind: EmailKind,
        state: EmailState = EmailState.SENT,
        *,
        to: Addressee = Addressee.CUSTOMER,
        number: int = 1,
        at: datetime | None = None,
        reply: str | None = None,
        recipient: str = "ada@acme.example",
    ) -> None:
        email = Email(kind=kind, to=to, number=number)
        outcome = EmailOutcome(state=state, at=at or datetime.now(UTC), answer=reply)
        await add_email(self.store, run, email, outcome, recipient=recipient)


def pat_request(domain: str = "acme.example", **changes: Any) -> SmartAccountRequest:
    """Return a request from Pat, as the form makes it."""
    values: dict[str, Any] = {
        "account_name": "Acme Networks",
        "customer_email": f"ada@{domain}",
        "account_domain": domain,
        "note_to_customer": "As agreed on the phone.\nPlease answer soon.",
        "user_emails": (f"bo@{domain}", f"cy@{domain}"),
        "note_to_added_users": "Welcome aboard.",
        "requester": PAT.requester,
    }
    return SmartAccountRequest.model_validate(values | changes)
