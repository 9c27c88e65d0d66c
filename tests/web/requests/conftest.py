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
    ActionResult,
    Addressee,
    Email,
    EmailKind,
    EmailState,
    NewApprover,
    RequestStatus,
    SmartAccountRequest,
    Status,
    Withdrawal,
)
from smart_accounts.contract.names import workflow_id
from smart_accounts.contract.steps import Decision, EmailOutcome, OpenRequest, RecordDecision
from smart_accounts.errors import NotFound, Rejected, SmartAccountsError, Unavailable
from smart_accounts.settings import Settings
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient, RunningRequest, Started
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from smart_accounts.web.auth.session import Partner
from smart_accounts.web.http.server import Server

KEY = "a-key-for-tests-that-is-long-enough-to-be-one"
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


class TakingClient(RequestClient):
    """Temporal as these pages know it: one open run a domain, actions that are done or refused."""

    def __init__(self) -> None:
        self.open: dict[str, tuple[str | None, str, SmartAccountRequest]] = {}
        """By workflow id: the idempotency key, the run's id and what was asked for."""
        self.actions: list[tuple[str, Any]] = []
        self.fails: SmartAccountsError | None = None
        self.live: RequestStatus | None = None
        """What a worker answers; ``None`` if none does."""

    async def check(self) -> None:
        if self.fails:
            raise self.fails

    async def start(self, request: SmartAccountRequest, *, key: str | None = None) -> Started:
        await self.check()
        id_ = workflow_id(request.account_domain)
        its_key, run, _ = self.open.setdefault(id_, (key, str(uuid.uuid4()), request))
        if its_key != key:
            raise Rejected(f"A request for {request.account_domain} is already under way.")
        return Started(id_, run, datetime.now(UTC))

    async def begun(self, workflow_id: str, *, run_id: str | None = None) -> RunningRequest:
        await self.check()
        _, run, request = self.open.get(workflow_id, (None, None, None))
        if run is None or run_id not in (None, run) or request is None:
            raise NotFound("There is no open request there.")
        return RunningRequest(workflow_id, run, datetime.now(UTC), request=request)

    async def status(self, workflow_id: str, *, run_id: str | None = None) -> RequestStatus:
        if self.live is None:
            raise Unavailable("no worker")
        return self.live

    async def resend(self, workflow_id: str, *, run_id: str | None = None) -> ActionResult:
        return await self._act("resend", run_id, None)

    async def replace_approver(
        self, workflow_id: str, new: NewApprover, *, run_id: str | None = None
    ) -> ActionResult:
        return await self._act("replace-approver", run_id, new.customer_email)

    async def withdraw(
        self, workflow_id: str, withdrawal: Withdrawal, *, run_id: str | None = None
    ) -> ActionResult:
        return await self._act("withdraw", run_id, withdrawal.reason)

    async def _act(self, name: str, run_id: str | None, what: str | None) -> ActionResult:
        await self.check()
        self.actions.append((name, what))
        return ActionResult(status=Status.PENDING, message="done")


@dataclass
class Desk:
    """The site as one signed-in partner uses it; ``work`` is what a worker does."""

    app: FastAPI
    store: AccountStore
    temporal: TakingClient
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
            self.app.state.sessions.begin(answer, partner)
        self.cookie = answer.headers.get("set-cookie", "").partition(";")[0].encode()

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
        for key, run, request in list(self.temporal.open.values()):
            await self.open(request, run, key=key, at=signed_at)
            ids.append(run)
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
        await self.store.open_request(opening, needs_attention, LIMITS)
        return run

    async def decide(self, run: str, decision: Decision) -> None:
        record = RecordDecision(request_id=run, decision=decision)
        if decision.status is Status.ACTIVE:
            await self.store.activate(record)
        else:
            await self.store.close(record)

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
    temporal = TakingClient()
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
        server = Server(config, desk.app.state.closing)
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
