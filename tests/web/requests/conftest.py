"""The pages for partners, with Pat signed in."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from smart_accounts.web.http.server import Server, server_config
from tests.support.fake_temporal import FakeTemporal
from tests.support.keys import KEY
from tests.support.partner_site import PartnerSite
from tests.support.partners import ISSUER, PAT
from tests.support.web_settings import ORGANISATION, web_settings

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
