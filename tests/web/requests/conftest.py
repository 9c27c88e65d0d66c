"""A partner's desk: the site, somebody signed in, and a Temporal that takes requests."""

import asyncio
import re
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send

from smart_accounts.contract.messages import (
    Addressee,
    Email,
    EmailKind,
    EmailState,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.steps import Decision, EmailOutcome, OpenRequest, RecordDecision
from smart_accounts.settings import Settings
from smart_accounts.store.limits import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from smart_accounts.web.auth.session import Partner
from smart_accounts.web.http.server import Server
from tests.support.fake_temporal import FakeTemporal
from tests.support.keys import KEY

PAT = Partner(subject="pat", email="pat@partner.example", name="Pat Lee", company="Partner Ltd")
KIM = Partner(subject="kim", email="kim@reseller.example", name="Kim Roy", company="Reseller GmbH")
OPAL = Partner(
    subject="opal",
    email="opal@service.example",
    name="Opal Ray",
    company="Example Accounts",
    is_operator=True,
)
LIMITS = Limits(open_per_customer=500, starts_per_requester_per_hour=500)


@dataclass
class Desk:
    """The site as one signed-in partner uses it; ``work`` is what a worker does."""

    app: FastAPI
    store: AccountStore
    temporal: FakeTemporal
    url: str
    listening: socket.socket
    http: httpx.AsyncClient = field(init=False)

    pat = PAT
    operator = OPAL
    somebody_else = KIM

    cookie: bytes = b""
    """What every browser here holds; set by ``sign_in``."""

    def sign_in(self, partner: Partner | None) -> None:
        answer = Response()
        if partner:
            self.app.state.services.sessions.begin(answer, partner)
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0].encode()

    @property
    def done(self) -> list[tuple[str, str | None]]:
        """The actions that Temporal was told, with their arguments."""
        return [(name, what) for name, what, *_ in self.temporal.actions]

    async def browse(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*scope.get("headers", []), (b"cookie", self.cookie)]
        await self.app({**scope, "headers": headers}, receive, send)

    async def token(self) -> str:
        """What a form of this session must hold."""
        page = (await self.http.get("/requests/new")).text
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        assert found
        return found[1]

    async def post(self, path: str, **form: str) -> httpx.Response:
        return await self.http.post(path, data=form | {"csrf": await self.token()})

    async def work(self, *, signed_at: datetime | None = None) -> list[str]:
        """Take up what Temporal has; answers the ids of the requests."""
        ids = []
        for running, key in list(self.temporal.running.values()):
            await self.open(running.request, running.request_id, key=key, at=signed_at)
            ids.append(running.request_id)
        return ids

    async def open(
        self,
        request: SmartAccountRequest,
        run: str | None = None,
        *,
        key: str | None = None,
        at: datetime | None = None,
        needs_attention: tuple[str, ...] = (),
    ) -> str:
        run, at = run or str(uuid.uuid4()), at or datetime.now(UTC)
        opening = OpenRequest(
            request_id=run,
            request=request,
            requested_at=at,
            deadline=at + request.acceptance_window,
            idempotency_key=key,
        )
        await self.store.requests.open(opening, needs_attention, LIMITS)
        return run

    async def decide(self, run: str, decision: Decision) -> None:
        record = RecordDecision(request_id=run, decision=decision)
        if decision.status is Status.ACTIVE:
            await self.store.requests.activate(record)
        else:
            await self.store.requests.close(record)

    async def mailed(
        self,
        run: str,
        kind: EmailKind,
        state: EmailState = EmailState.SENT,
        *,
        to: Addressee = Addressee.CUSTOMER,
        number: int = 1,
        at: datetime | None = None,
        answer: str | None = None,
        recipient: str = "ada@acme.example",
    ) -> None:
        await self.store.emails.record(
            run,
            Email(kind=kind, to=to, number=number),
            recipient,
            f"<{run}.{kind}.{to}.{number}@x>",
            uuid.uuid4().hex,
            EmailOutcome(state=state, at=at or datetime.now(UTC), answer=answer),
        )


@pytest.fixture
async def desk(store: AccountStore, request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    """A test may name the public address."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = getattr(request, "param", f"http://127.0.0.1:{listening.getsockname()[1]}")
    settings = Settings(
        _env_file=None,
        public_url=url,
        secret_keys=KEY,
        smtp_hostname="127.0.0.1",
        mail_from="accounts@service.example",
        organisation_name="Example Accounts",
        support_url="https://service.example/help",
        temporal_ui_url="https://temporal.example/namespaces/ours",
    )
    temporal = FakeTemporal()
    app = create_app(store, temporal, LinkTokens([KEY]), settings)
    with listening:
        opened = Desk(app, store, temporal, url, listening)
        opened.sign_in(PAT)
        transport = httpx.ASGITransport(opened.browse, raise_app_exceptions=False)
        # Another address than the public one: no link may be made from it.
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            opened.http = http
            yield opened


Serve = Callable[[Desk], Awaitable[tuple[Server, asyncio.Task[None]]]]


@pytest.fixture
def serve() -> Serve:
    """Put a desk on its port."""

    async def started(desk: Desk) -> tuple[Server, asyncio.Task[None]]:
        config = uvicorn.Config(
            desk.browse, interface="asgi3", access_log=False, lifespan="off", ws="none"
        )
        server = Server(config, desk.app.state.services.closing)
        serving = asyncio.create_task(server.serve(sockets=[desk.listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        return server, serving

    return started


@pytest.fixture
async def served_desk(desk: Desk, serve: Serve) -> AsyncIterator[Desk]:
    server, serving = await serve(desk)
    yield desk
    server.should_exit = True
    await serving


@pytest.fixture
def wanted() -> Callable[..., SmartAccountRequest]:
    """A request of Pat's, as the form would make it."""

    def made(domain: str = "acme.example", **changes: Any) -> SmartAccountRequest:
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

    return made
