"""An identity provider that lies as it is told, and a visitor who signs in there."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CLIENT = {"oidc_client_id": "us", "oidc_client_secret": "a:secret"}


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


class LyingProvider:
    """Redeems the code ``good`` as it should; each attribute makes it do worse."""

    def __init__(self, url: str, key: RSAKey) -> None:
        self.url = url
        self.key = key
        self.published: Any = key
        self.signing: Any = key
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "one"}
        self.asked: dict[str, str] = {}
        """The query that the browser was sent with."""
        self.redeemed: list[tuple[dict[str, str], str | None]] = []
        """The forms that came to the token endpoint, and their ``Authorization``."""
        self.person: dict[str, Any] = {
            "email": "pat@partner.example",
            "email_verified": True,
            "name": "Pat Lee",
            "company": "Partner Ltd",
            "roles": [],
        }
        self.token: dict[str, Any] = {}
        """Claims of the ID token that are not as they should be; ``None`` leaves one out."""
        self.userinfo: dict[str, Any] = {}
        self.configuration: dict[str, Any] = {}
        self.answers: dict[str, Response] = {}
        """By path: what is answered instead."""
        self.hangs = ""
        """The path that is never answered."""

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        while path == self.hangs:
            await asyncio.sleep(0.02)
        if path in self.answers:
            return self.answers[path]
        form = dict(parse_qsl((await request.body()).decode()))
        return JSONResponse(self._answer(path, form, request.headers.get("authorization")))

    def _answer(self, path: str, form: dict[str, str], authorization: str | None) -> Any:
        match path:
            case "/.well-known/openid-configuration":
                endpoints = ("authorization", "token", "userinfo", "end_session")
                found = {f"{name}_endpoint": f"{self.url}/{name}" for name in endpoints}
                return {
                    "issuer": self.url,
                    "jwks_uri": f"{self.url}/jwks",
                    **found,
                    **self.configuration,
                }
            case "/jwks":
                return {"keys": [self.published.as_dict(private=False)]}
            case "/userinfo":
                return self.userinfo
            case _:
                self.redeemed.append((form, authorization))
                return {
                    "access_token": "opaque",
                    "token_type": "Bearer",
                    "id_token": self._id_token(),
                }

    def _id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "pat",
            "aud": "us",
            "iat": now,
            "exp": now + 300,
            "nonce": self.asked.get("nonce"),
            **self.person,
            **self.token,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(self.header, claims, self.signing, algorithms=[self.header["alg"]])


class LiarsServer:
    """One server for all these tests, which each have a provider of their own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self.provider = LyingProvider(url, self.key)

    async def answer(self, request: Request) -> Response:
        return await self.provider.answer(request)


@pytest.fixture(scope="session")
async def liars_server() -> AsyncIterator[LiarsServer]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        liars = LiarsServer(f"http://127.0.0.1:{listening.getsockname()[1]}")
        app = Starlette(routes=[Route("/{path:path}", liars.answer, methods=["GET", "POST"])])
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield liars
        server.should_exit = True
        await serving


@pytest.fixture
def liar(liars_server: LiarsServer) -> Iterator[LyingProvider]:
    provider = liars_server.provider = LyingProvider(liars_server.url, liars_server.key)
    yield provider
    provider.hangs = ""


class Visitor:
    """A browser at one of our sites, and the way to the lying provider and back."""

    def __init__(self, site: Any, provider: LyingProvider) -> None:
        self.site = site
        self.http: httpx.AsyncClient = site.http
        self.provider = provider

    async def goes(self, wanted: str = "/") -> dict[str, str]:
        """Start; answers what to come back with."""
        sent = await self.http.get("/sign-in", params={"next": wanted})
        assert sent.status_code == 303, sent.text
        self.provider.asked = query_of(sent.headers["location"])
        return {"code": "good", "state": self.provider.asked["state"]}

    async def comes_back(self, **query: str) -> httpx.Response:
        return await self.http.get("/sign-in/callback", params=query)

    async def signs_in(self, wanted: str = "/") -> httpx.Response:
        return await self.comes_back(**await self.goes(wanted))

    def keeps(self, session: str) -> None:
        """Have this browser hold that session's cookie, and no other."""
        self.http.cookies.set("session", session, domain="127.0.0.1")

    def stays_out(self, answer: httpx.Response, says: str, status: int = 400) -> None:
        """See that a page says why nobody is signed in, and what to do."""
        assert answer.status_code == status, answer.text
        assert says in answer.text
        assert 'href="/sign-in"' in answer.text
        assert self.session is None
        assert "session" not in self.http.cookies

    @property
    def session(self) -> Any:
        """What the site makes of this browser's cookies."""
        cookies = "; ".join(f"{each.name}={each.value}" for each in self.http.cookies.jar)
        scope = {"type": "http", "app": self.site.app, "headers": [(b"cookie", cookies.encode())]}
        return self.site.app.state.services.sessions.find(Request(scope))


@pytest.fixture
async def visit(
    liar: LyingProvider, open_site: Callable[..., Any]
) -> AsyncIterator[Callable[..., Any]]:
    """Open a site that trusts the lying provider, and visit it."""
    async with AsyncExitStack() as sites:

        async def visit_one(**settings: Any) -> Visitor:
            site = await sites.enter_async_context(
                open_site(**{"oidc_issuer": liar.url, **CLIENT, **settings})
            )
            return Visitor(site, liar)

        yield visit_one


@pytest.fixture
async def visitor(visit: Callable[..., Any]) -> Visitor:
    visitor: Visitor = await visit()
    return visitor
