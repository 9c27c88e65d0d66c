"""The web application: its pages, the health checks, and what every answer carries."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smart_accounts.errors import Unavailable
from smart_accounts.settings import Settings
from smart_accounts.store.partners import Partners
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.activation import Activation
from smart_accounts.web.api.app import add_api
from smart_accounts.web.auth.company import CompanyForm
from smart_accounts.web.auth.cookies import SignedCookies
from smart_accounts.web.auth.login_attempt import LoginAttempts
from smart_accounts.web.auth.provider import Provider, ProviderDown
from smart_accounts.web.auth.session import NotSignedIn, Sessions, header_of, session_of
from smart_accounts.web.auth.sign_in import SignIn
from smart_accounts.web.bounces import bounce_hook
from smart_accounts.web.http.origins import asking_for_company, to_sign_in
from smart_accounts.web.http.rate_limits import RateLimits
from smart_accounts.web.http.trusted_hosts import TrustedHosts
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS, Pages
from smart_accounts.web.requests.routes import request_pages

CHECK_SECONDS = 2

SAFE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not no-referrer: with it browsers send "Origin: null" with our own forms, as a foreign
    # site's may. Other sites are told nothing either way.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}
HSTS = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}

_ERROR_PAGES = {403: "foreign", 404: "unknown", 413: "too-large"}

_log = logging.getLogger(__name__)


class SafeHeaders:
    """Puts the headers that keep pages private on every answer. Static files may be cached."""

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        self._app = app
        self._headers = SAFE_HEADERS | (HSTS if base_url.startswith("https://") else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                if scope["path"].startswith("/static/"):
                    headers["Cache-Control"] = "no-cache"  # asks each time whether it changed
            await send(message)

        await self._app(scope, receive, send_safely)


def create_app(
    store: AccountStore,
    client: RequestClient,
    tokens: LinkTokens,
    settings: Settings,
    provider: Provider | None = None,
) -> FastAPI:
    """The application on its adapters; whoever calls it opens and closes them.

    Without a ``provider`` nobody can sign in.
    """
    page = Pages(settings)
    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,  # they would be built from the Host header
        telemetry={"tracing": False},  # spans hold the path, which holds the link's token
    )
    # The last one added is the first to see a request.
    app.add_middleware(RateLimits, page=page)
    app.add_middleware(TrustedHosts, base_url=settings.base_url)
    app.add_middleware(SafeHeaders, base_url=settings.base_url)
    app.mount("/static", StaticFiles(packages=[("smart_accounts.web", "static")]))
    app.include_router(Activation(store, client, tokens, settings, page).router)
    app.state.closing = asyncio.Event()  # whoever serves it sets it: the streams end first
    app.include_router(request_pages(store, client, settings, page, app.state.closing))
    app.include_router(bounce_hook(store.emails, client, settings.bounce_domain))
    _add_sign_in(app, provider, store.partners, settings, page)
    add_api(app, store, client, settings, page)
    _add_errors(app, page)
    _add_ways_to_sign_in(app, page)
    _add_health(app, store, client)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def start(request: Request) -> Response:
        return page("start", **header_of(request), can_sign_in=provider is not None)

    return app


def _add_sign_in(
    app: FastAPI, provider: Provider | None, partners: Partners, settings: Settings, page: Pages
) -> None:
    keys = [key.get_secret_value() for key in settings.secret_keys]
    cookies = SignedCookies(keys, settings.base_url, settings.oidc_issuer)
    app.state.sessions = sessions = Sessions(cookies, settings.base_url)
    if provider:
        attempts = LoginAttempts(cookies)
        app.include_router(SignIn(provider, partners, attempts, sessions, settings, page).router)
        app.include_router(CompanyForm(provider.issuer, partners, sessions, page).router)
        return

    async def nobody_can() -> Response:
        return page("no-sign-in", 501)

    for path in ("/sign-in", "/sign-in/callback", "/sign-in/company", "/sign-out"):
        methods = ["GET", "HEAD", "POST"]
        app.add_api_route(path, nobody_can, methods=methods, include_in_schema=False)


def _add_ways_to_sign_in(app: FastAPI, page: Pages) -> None:
    @app.exception_handler(NotSignedIn)
    async def not_signed_in(request: Request, _: NotSignedIn) -> Response:
        if request.method not in ("GET", "HEAD"):
            return page("signed-out-meanwhile", 401)
        query = request.url.query
        wanted = quote(request.scope["path"]) + (f"?{query}" if query else "")
        way = asking_for_company if session_of(request) else to_sign_in
        return RedirectResponse(page.root + way(wanted), 303)

    @app.exception_handler(ProviderDown)
    async def provider_away(_: Request, error: ProviderDown) -> Response:
        _log.warning("answered 503, the identity provider is away: %s", error)
        headers = dict.fromkeys(("Retry-After", "Refresh"), str(RETRY_AFTER_SECONDS))
        return page("provider-down", 503, headers)


def _add_errors(app: FastAPI, page: Pages) -> None:
    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        name = _ERROR_PAGES.get(error.status_code, "refused")
        phrase = HTTPStatus(error.status_code).phrase
        return page(name, error.status_code, error.headers, phrase=phrase)

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> Response:
        _log.warning("answered 503: %s", error)
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        form = getattr(request.state, "form", None)
        if form is None:  # a page that only shows something may try again by itself
            headers["Refresh"] = headers["Retry-After"]
        return page("unavailable", 503, headers, form=form)

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return page("failed", 500, SAFE_HEADERS)  # made outside of every middleware


def _add_health(app: FastAPI, store: AccountStore, client: RequestClient) -> None:
    @app.api_route("/healthz", methods=["GET", "HEAD"], include_in_schema=False)
    async def alive() -> Response:
        return JSONResponse({"status": "ok"})

    @app.api_route("/readyz", methods=["GET", "HEAD"], include_in_schema=False)
    async def ready() -> Response:
        temporal, database = await asyncio.gather(_state(client.check), _state(store.ping))
        is_ready = temporal == database == "ok"
        return JSONResponse(
            {
                "status": "ok" if is_ready else "unavailable",
                "temporal": temporal,
                "database": database,
            },
            200 if is_ready else 503,
        )


async def _state(check: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except (Unavailable, TimeoutError):
        return "down"
    return "ok"
