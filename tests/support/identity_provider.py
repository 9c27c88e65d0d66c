"""An OpenID provider that can be told to send wrong responses, and a visitor who signs in there."""

import asyncio
import time
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import Key, RSAKey
from sqlalchemy import update
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from smart_accounts.store import tables
from smart_accounts.store.sessions import Partner, Session
from tests.support.site import Site


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


class FakeProvider:
    """Signs a visitor in. Each attribute can make a response wrong."""

    def __init__(self, url: str, key: RSAKey) -> None:
        self.url = url
        self.key = key
        self.published_key: Key = key
        self.signing_key: Key = key
        self.token_header: dict[str, Any] = {"alg": "RS256", "kid": "one"}
        self.authorization_query: dict[str, str] = {}
        """The query with which our site sent the browser to this provider."""
        self.token_requests: list[tuple[dict[str, str], str | None]] = []
        """The forms that came to the token endpoint, with their header ``Authorization``."""
        self.person: dict[str, Any] = {
            "email": "pat@partner.example",
            "email_verified": True,
            "name": "Pat Lee",
            "company": "Partner Ltd",
            "roles": [],
        }
        """Claims about the person who signs in."""
        self.token_changes: dict[str, Any] = {}
        """Changes to the claims of the ID token. A change to None removes a claim."""
        self.token_response_changes: dict[str, Any] = {}
        """Changes to what the token endpoint returns beside the ID token."""
        self.userinfo: dict[str, Any] = {}
        self.configuration_changes: dict[str, Any] = {}
        self.responses: dict[str, Response] = {}
        """For each path: the response that is sent instead."""
        self.silent_path = ""
        """Requests to this path get no response."""

    async def respond(self, request: Request) -> Response:
        path = request.url.path
        while path == self.silent_path:
            await asyncio.sleep(0.02)
        if path in self.responses:
            return self.responses[path]
        form = dict(parse_qsl((await request.body()).decode()))
        return JSONResponse(self._document(path, form, request.headers.get("authorization")))

    def _document(
        self, path: str, form: dict[str, str], authorization: str | None
    ) -> dict[str, Any]:
        match path:
            case "/.well-known/openid-configuration":
                endpoints = ("authorization", "token", "userinfo", "end_session")
                configuration = {f"{name}_endpoint": f"{self.url}/{name}" for name in endpoints}
                configuration |= {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
                return configuration | self.configuration_changes
            case "/jwks":
                return {"keys": [self.published_key.as_dict(private=False)]}
            case "/userinfo":
                return self.userinfo
            case _:
                self.token_requests.append((form, authorization))
                return {
                    "access_token": "opaque",
                    "token_type": "Bearer",
                    "id_token": self._id_token(),
                    **self.token_response_changes,
                }

    def _id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "pat",
            "aud": "us",
            "iat": now,
            "exp": now + 300,
            "nonce": self.authorization_query.get("nonce"),
            **self.person,
            **self.token_changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        algorithms = [self.token_header["alg"]]
        return jwt.encode(self.token_header, claims, self.signing_key, algorithms=algorithms)


class ProviderServer:
    """One server for all tests. Each test replaces its provider."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self.provider = FakeProvider(url, self.key)

    async def respond(self, request: Request) -> Response:
        return await self.provider.respond(request)


class Visitor:
    """A browser at one of our sites, whose person signs in at the fake provider."""

    def __init__(self, site: Site, provider: FakeProvider) -> None:
        self.site = site
        self.http = site.http
        self.provider = provider

    async def start_sign_in(self, next_page: str = "/") -> dict[str, str]:
        """Go to the provider. Return the query with which the provider sends the browser back."""
        response = await self.http.get("/sign-in", params={"next": next_page})
        return self.sign_in_at_provider(response)

    def sign_in_at_provider(self, response: httpx.Response) -> dict[str, str]:
        """Follow the redirect to the provider. Return the query with which it sends us back."""
        assert response.status_code == 303, response.text
        url = response.headers["location"]
        assert url.startswith(f"{self.provider.url}/authorization?")
        self.provider.authorization_query = query_of(url)
        return {"code": "good", "state": self.provider.authorization_query["state"]}

    async def open_callback(self, **query: str) -> httpx.Response:
        return await self.http.get("/sign-in/callback", params=query)

    async def sign_in(self, next_page: str = "/") -> httpx.Response:
        return await self.open_callback(**await self.start_sign_in(next_page))

    def set_session_cookie(self, value: str) -> None:
        self.http.cookies.set("session", value, domain="127.0.0.1")

    async def check_rejected(
        self, response: httpx.Response, reason: str, status: int = 400
    ) -> None:
        """Check that nobody is signed in, and that the page says why and what to do."""
        assert response.status_code == status, response.text
        assert reason in response.text
        assert 'href="/sign-in' in response.text
        assert await self.session() is None
        assert "session" not in self.http.cookies

    async def session(self) -> Session | None:
        """The session that our site finds in the cookies of this browser."""
        cookies = "; ".join(f"{each.name}={each.value}" for each in self.http.cookies.jar)
        scope = {
            "type": "http",
            "app": self.site.app,
            "headers": [(b"cookie", cookies.encode())],
            "query_string": b"",
        }
        return await self.site.services.sessions.find(Request(scope))

    async def open_session(self) -> Session:
        session = await self.session()
        assert session
        return session

    async def change_session(self, **values: object) -> None:
        """Change columns of this browser's session, which must be open."""
        session = await self.open_session()
        async with self.site.store.engine.begin() as connection:
            is_this = tables.sessions.c.id == session.id
            await connection.execute(update(tables.sessions).where(is_this).values(**values))

    async def partner(self) -> Partner:
        return (await self.open_session()).partner


class NewVisitor(Protocol):
    """Opens a site with these settings that trusts the fake provider. Returns a visitor there."""

    async def __call__(self, **settings: Any) -> Visitor: ...
