"""The web application on the real store and a client that remembers what Temporal was told."""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Response
from limits.storage import memory
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.contract.messages import Status
from smart_accounts.errors import SmartAccountsError
from smart_accounts.settings import Settings
from smart_accounts.store import tables
from smart_accounts.store.database import migrate
from smart_accounts.store.links import ActivationLinks
from smart_accounts.store.records import ActivationLink, StoredRequest
from smart_accounts.store.requests import Requests
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens, token_hash
from smart_accounts.web.app import create_app
from smart_accounts.web.auth.provider import open_provider
from smart_accounts.web.auth.session import Partner
from tests.support.fake_temporal import FakeTemporal
from tests.support.keys import KEY

PARTNER = Partner(subject="pat", email="pat@partner.example", name="Pat Lee", company="Partner Ltd")


class WatchedLinks(ActivationLinks):
    """The real links. They count look-ups, and ``fails`` as if the database were down."""

    lookups = 0
    fails: SmartAccountsError | None = None

    async def find(self, token_hash: str) -> ActivationLink | None:
        self.lookups += 1
        if self.fails:
            raise self.fails
        return await super().find(token_hash)


class WatchedRequests(Requests):
    fails: SmartAccountsError | None = None

    async def note_signalled(self, request_id: str, answer: str) -> None:
        if self.fails:
            raise self.fails
        await super().note_signalled(request_id, answer)


class WatchedStore(AccountStore):
    """The real store, whose database can be made to fail."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.links: WatchedLinks = WatchedLinks(engine)
        self.requests: WatchedRequests = WatchedRequests(engine)
        self.ping_fails: SmartAccountsError | None = None

    def fail(self, error: SmartAccountsError | None) -> None:
        self.links.fails = self.requests.fails = self.ping_fails = error

    async def ping(self) -> None:
        if self.ping_fails:
            raise self.ping_fails
        await super().ping()


@dataclass
class Site:
    """One web application with its adapters, and an HTTP client that follows no redirect."""

    app: FastAPI
    store: WatchedStore
    temporal: FakeTemporal
    http: httpx.AsyncClient
    url: str
    listening: socket.socket
    request_id: str = ""
    """Of the request that was issued last."""

    async def issue(self, **changes: Any) -> str:
        """Store a request with its first link; returns the link's token."""
        request = replace(pending(), id=str(uuid.uuid4()), **changes)
        self.request_id = request.id
        token = LinkTokens([KEY]).candidates(request.id, 1)[0]
        async with self.store.engine.begin() as connection:
            row = asdict(request)
            await connection.execute(insert(tables.requests).values(row))
        await self.link(token)
        return token

    async def link(self, token: str) -> None:
        """Make ``token`` the first link of the newest request, whoever signed it."""
        await self.store.links.save(self.request_id, 1, token_hash(token))

    def sign_in(self, **changes: Any) -> Partner:
        """Give the HTTP client the session of a partner, and answer whose it is."""
        partner = replace(PARTNER, **changes)
        response = Response()
        self.app.state.services.sessions.begin(response, partner)
        name, _, value = response.headers["set-cookie"].partition(";")[0].partition("=")
        self.http.cookies.set(name, value, domain="127.0.0.1")
        return partner

    async def becomes(self, **changes: Any) -> None:
        """The worker went on with the newest request."""
        async with self.store.engine.begin() as connection:
            newest = tables.requests.c.id == self.request_id
            await connection.execute(update(tables.requests).where(newest).values(**changes))

    async def stored(self) -> StoredRequest:
        request = await self.store.requests.find(self.request_id)
        assert request
        return request

    async def everything(self) -> list[Any]:
        async with self.store.engine.connect() as connection:
            return [
                (await connection.execute(select(table))).all()
                for table in tables.metadata.sorted_tables
            ]


def pending() -> StoredRequest:
    now = datetime.now(UTC)
    return StoredRequest(
        id="",
        workflow_id="smart-account-acme.example",
        status=Status.PENDING,
        account_name="Acme Networks",
        account_domain="acme.example",
        customer_email="ada@acme.example",
        requester_email="pat@partner.example",
        requester_name="Pat Lee",
        requester_company="Partner Ltd",
        note_to_customer="As agreed on the phone.\nPlease answer soon.",
        note_to_added_users="Welcome aboard.",
        added_users=("bo@acme.example", "cy@acme.example"),
        needs_attention=(),
        requested_at=now - timedelta(days=1, minutes=5),
        deadline=now + timedelta(days=88, hours=23),
        link_ordinal=1,
        signalled=None,
        decided_at=None,
        decided_by=None,
        reason=None,
    )


@pytest.fixture(autouse=True)
def clock_of_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands still at second 20: a test that runs into a new minute would be allowed more."""
    now = time.time() // 60 * 60 + 20
    monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: now))


@pytest.fixture(scope="session")
async def web_database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all these tests: each stores requests of its own."""
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('web') / 'store.db'}"
    await migrate(url)
    return url


OpenSite = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def open_site(web_database_url: str) -> OpenSite:
    @asynccontextmanager
    async def opened(public_url: str | None = None, **more: Any) -> AsyncIterator[Site]:
        listening = socket.create_server(("127.0.0.1", 0))
        url = public_url or f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = Settings(
            _env_file=None,
            public_url=url,
            secret_keys=more.pop("secret_keys", KEY),
            smtp_hostname="127.0.0.1",
            mail_from="accounts@service.example",
            organisation_name="Example Accounts",
            support_url="https://service.example/help",
            **more,
        )
        with listening:
            async with (
                WatchedStore.open(web_database_url) as store,
                open_provider(settings) as provider,
            ):
                temporal = FakeTemporal()
                app = create_app(store, temporal, LinkTokens([KEY]), settings, provider)
                transport = httpx.ASGITransport(app, raise_app_exceptions=False)
                # Another address than the public one: no link may be made from it.
                base = f"{url.partition(':')[0]}://127.0.0.1"
                async with httpx.AsyncClient(transport=transport, base_url=base) as http:
                    yield Site(app, store, temporal, http, url, listening)

    return opened


@pytest.fixture
async def site(open_site: OpenSite) -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


@pytest.fixture
def serve(open_site: OpenSite) -> OpenSite:
    """Open a site on a real port."""

    @asynccontextmanager
    async def served(**settings: Any) -> AsyncIterator[Site]:
        async with open_site(**settings) as site:
            config = uvicorn.Config(site.app, access_log=False, lifespan="off", ws="none")
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[site.listening]))
            while not server.started:
                await asyncio.sleep(0.01)
            try:
                yield site
            finally:
                server.should_exit = True
                await serving

    return served


@pytest.fixture
async def served(serve: OpenSite) -> AsyncIterator[Site]:
    async with serve() as site:
        yield site
