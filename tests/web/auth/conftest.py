"""The fake identity provider, and visitors who sign in there."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from tests.support.identity_provider import FakeProvider, NewVisitor, ProviderServer, Visitor
from tests.support.site import OpenSite

CLIENT = {"oidc_client_id": "us", "oidc_client_secret": "a:secret"}


@pytest.fixture(scope="session")
async def provider_server() -> AsyncIterator[ProviderServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served = ProviderServer(f"http://127.0.0.1:{listener.getsockname()[1]}")
        app = Starlette(routes=[Route("/{path:path}", served.respond, methods=["GET", "POST"])])
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield served
        server.should_exit = True
        await serving


@pytest.fixture
def fake_provider(provider_server: ProviderServer) -> Iterator[FakeProvider]:
    provider = FakeProvider(provider_server.url, provider_server.key)
    provider_server.provider = provider
    yield provider
    provider.silent_path = ""


@pytest.fixture
async def new_visitor(
    fake_provider: FakeProvider, open_site: OpenSite
) -> AsyncIterator[NewVisitor]:
    async with AsyncExitStack() as sites:

        async def opened(**settings: Any) -> Visitor:
            values = {"oidc_issuer": fake_provider.url, **CLIENT, **settings}
            site = await sites.enter_async_context(open_site(**values))
            return Visitor(site, fake_provider)

        yield opened


@pytest.fixture
async def visitor(new_visitor: NewVisitor) -> Visitor:
    return await new_visitor()
