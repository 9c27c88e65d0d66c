"""Web applications on one database, without and with a real port."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from limits.storage import memory

from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from smart_accounts.web.auth.provider import open_provider
from smart_accounts.web.http.server import Server, server_config
from tests.support.fake_temporal import FakeTemporal
from tests.support.faulty_store import FaultyStore
from tests.support.keys import KEY
from tests.support.partner_site import PartnerSite
from tests.support.partners import ISSUER, PAT
from tests.support.site import OpenSite, Site
from tests.support.web_settings import ORGANISATION, web_settings


@pytest.fixture(autouse=True)
def stopped_rate_limit_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock at second 20, because each new minute would allow more requests."""
    now = time.time() // 60 * 60 + 20
    monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: now))


@pytest.fixture(scope="session")
async def web_database_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of one database for all tests. Each test stores its own requests."""
    url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('web') / 'store.db'}"
    await migrate(url)
    return url


@pytest.fixture
def open_site(web_database_url: str) -> OpenSite:
    @asynccontextmanager
    async def opened(public_url: str | None = None, **changes: Any) -> AsyncIterator[Site]:
        listener = socket.create_server(("127.0.0.1", 0))
        url = public_url or f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = web_settings(url, **ORGANISATION | changes)
        with listener:
            async with (
                FaultyStore.open(web_database_url) as store,
                open_provider(settings) as provider,
            ):
                temporal = FakeTemporal()
                app = create_app(store, temporal, LinkTokens([KEY]), settings, provider)
                transport = httpx.ASGITransport(app, raise_app_exceptions=False)
                # Not the public address, because no link may be built from the Host header.
                address = f"{url.partition(':')[0]}://127.0.0.1"
                async with httpx.AsyncClient(transport=transport, base_url=address) as http:
                    yield Site(app, store, temporal, http, url, listener)

    return opened


@pytest.fixture
async def site(open_site: OpenSite) -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


@pytest.fixture
def open_served_site(open_site: OpenSite) -> OpenSite:
    """Open a site and serve it on its port."""

    @asynccontextmanager
    async def served(public_url: str | None = None, **changes: Any) -> AsyncIterator[Site]:
        async with open_site(public_url, **changes) as site:
            server = uvicorn.Server(server_config(site.app, lifespan="off"))
            serving = asyncio.create_task(server.serve(sockets=[site.listener]))
            while not server.started:
                await asyncio.sleep(0.01)
            try:
                yield site
            finally:
                server.should_exit = True
                await serving

    return served


@pytest.fixture
async def served_site(open_served_site: OpenSite) -> AsyncIterator[Site]:
    async with open_served_site() as site:
        yield site


TEMPORAL_UI = "https://temporal.example/namespaces/ours"


@pytest.fixture
async def partner_site(
    store: AccountStore, request: pytest.FixtureRequest
) -> AsyncIterator[PartnerSite]:
    """A test may set the public URL as the fixture's parameter."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = getattr(request, "param", f"http://127.0.0.1:{listener.getsockname()[1]}")
    settings = web_settings(url, **ORGANISATION, temporal_ui_url=TEMPORAL_UI, oidc_issuer=ISSUER)
    temporal = FakeTemporal()
    app = create_app(store, temporal, LinkTokens([KEY]), settings)
    with listener:
        site = PartnerSite(app, store, temporal, url, listener)
        await site.sign_in(PAT)
        transport = httpx.ASGITransport(site.app_with_cookie, raise_app_exceptions=False)
        # Not the public address, because no link may be built from the Host header.
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            site.http = http
            yield site


StartServer = Callable[[PartnerSite], Awaitable[tuple[Server, asyncio.Task[None]]]]


@pytest.fixture
def start_server() -> StartServer:
    """Serve a site on its port."""

    async def started(site: PartnerSite) -> tuple[Server, asyncio.Task[None]]:
        config = server_config(site.app_with_cookie, interface="asgi3", lifespan="off")
        server = Server(config, site.services.closing)
        serving = asyncio.create_task(server.serve(sockets=[site.listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        return server, serving

    return started


@pytest.fixture
async def served_partner_site(
    partner_site: PartnerSite, start_server: StartServer
) -> AsyncIterator[PartnerSite]:
    server, serving = await start_server(partner_site)
    yield partner_site
    server.should_exit = True
    await serving
