"""The web application: the pages, the API, the health checks and the error pages."""

import logging
from http import HTTPStatus
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from temporalio.common import MetricMeter

from smart_accounts.contract.domains import allow_free_mail
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.settings import Settings
from smart_accounts.store.limits import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.codec import PayloadCipher
from smart_accounts.temporal.logs import with_cause
from smart_accounts.temporal.readiness import DependencyCheck
from smart_accounts.tokens import LinkTokens
from smart_accounts.web import activation, bounces
from smart_accounts.web.api.app import PATH as API_PATH
from smart_accounts.web.api.app import add_api
from smart_accounts.web.auth import company, session_pages, sign_in
from smart_accounts.web.auth.cookies import Cookies, SignedCookies
from smart_accounts.web.auth.issuer import ProviderDown
from smart_accounts.web.auth.login_attempt import LoginAttempts
from smart_accounts.web.auth.provider import Provider
from smart_accounts.web.auth.session import (
    CompanyMissing,
    NotSignedIn,
    Sessions,
    listens_for_events,
)
from smart_accounts.web.codec_server import add_codec_server
from smart_accounts.web.dependencies import CurrentSession, Page, Responded, Services, Web
from smart_accounts.web.http.health import alive_response, ready_response
from smart_accounts.web.http.origins import company_path, is_cross_origin, sign_in_path
from smart_accounts.web.http.problem import problem
from smart_accounts.web.http.rate_limits import RateLimits
from smart_accounts.web.http.security_headers import SECURITY_HEADERS, SecurityHeaders
from smart_accounts.web.http.trusted_hosts import TrustedHosts
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS, Pages
from smart_accounts.web.requests import routes as request_pages
from smart_accounts.web.requests.drafts import keep_late_form
from smart_accounts.web.security_log import Event, Outcome, SecurityLog
from smart_accounts.web.submission import Submission
from smart_accounts.web.webhooks import detail as webhook_detail
from smart_accounts.web.webhooks import routes as webhook_pages

_ERROR_PAGES = {403: "forbidden", 404: "not-found", 413: "too-large"}

_log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)


def create_app(
    store: AccountStore,
    client: RequestClient,
    tokens: LinkTokens,
    settings: Settings,
    provider: Provider | None = None,
    meter: MetricMeter = MetricMeter.noop,
) -> FastAPI:
    """Return the application. The caller opens and closes the store, the client and the provider.

    Without a ``provider`` nobody can sign in.
    """
    allow_free_mail(settings.free_mail_exceptions)
    pages, url, issuer = Pages(settings), settings.base_url, settings.oidc_issuer
    keys = settings.cookie_keys
    services = Services(
        settings=settings,
        store=store,
        client=client,
        dependency_check=DependencyCheck(client, store),
        tokens=tokens,
        payload_cipher=PayloadCipher(settings.encryption_keys),
        pages=pages,
        sessions=Sessions(Cookies(url), store.sessions, issuer),
        login_attempts=LoginAttempts(SignedCookies(keys, url, issuer), keys, issuer),
        submission=Submission(store, client, Limits.of(settings)),
        provider=provider,
        security_log=SecurityLog(settings.signing_keys),
        meter=meter,
    )
    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,  # redirects would be built from the Host header
        telemetry={"tracing": False},  # spans hold the path, which holds the link's token
    )
    app.state.services = services
    # The middleware that is added last sees a request first.
    app.add_middleware(RateLimits, pages=pages, security_log=services.security_log)
    app.add_middleware(TrustedHosts, base_url=settings.base_url)
    app.add_middleware(SecurityHeaders, base_url=settings.base_url)
    app.mount("/static", StaticFiles(packages=[("smart_accounts.web", "static")]))
    # `include_router` would examine each route again at the first request, which takes 75 ms.
    app.router.routes.extend(router.routes)
    for part in (
        activation,
        request_pages,
        webhook_pages,
        webhook_detail,
        bounces,
        sign_in,
        company,
        session_pages,
    ):
        app.router.routes.extend(part.router.routes)
    add_api(app, services)
    if settings.payload_keys:
        add_codec_server(app, services)
    _add_error_pages(app, services)
    _add_sign_in_pages(app, services)
    return app


@router.api_route("/", methods=["GET", "HEAD"])
async def start_page(page: Page, session: CurrentSession, web: Web) -> Response:
    # During an outage of the database, nobody is asked to sign in again.
    return page("start", can_sign_in=web.provider is not None and session is None)


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def alive() -> Response:
    return alive_response()


@router.api_route("/readyz", methods=["GET", "HEAD"])
async def ready(web: Web) -> Response:
    return ready_response(await web.dependency_check.states())


def _add_error_pages(app: FastAPI, services: Services) -> None:
    pages, security_log = services.pages, services.security_log

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if request.scope["path"].startswith(f"{API_PATH}/"):  # the API has no such path
            return problem(error.status_code, error.detail)
        name = _ERROR_PAGES.get(error.status_code, "error")
        phrase = HTTPStatus(error.status_code).phrase
        return pages(name, error.status_code, error.headers, phrase=phrase)

    @app.exception_handler(NotFound)
    async def not_found(request: Request, error: NotFound) -> Response:
        security_log.write(request, Event.ACCESS, Outcome.FAILURE)
        return pages("not-found", 404, reason=str(error))

    @app.exception_handler(Unavailable)
    async def unavailable(request: Request, error: Unavailable) -> Response:
        _log.warning("responded 503: %s", with_cause(error))
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        form = _typed_form(services, request)
        if form is None:  # a browser reloads the page with GET
            headers["Refresh"] = headers["Retry-After"]
        return pages("unavailable", 503, headers, form=form, path=_path(request))

    @app.exception_handler(Responded)
    async def responded(_: Request, error: Responded) -> Response:
        return error.response

    @app.exception_handler(Exception)
    async def failed(request: Request, _: Exception) -> Response:
        security_log.write(request, Event.UNEXPECTED, Outcome.FAILURE)
        return pages("server-error", 500, SECURITY_HEADERS)  # runs outside the middleware


def _typed_form(web: Services, request: Request) -> dict[str, str] | None:
    """Return the form for an error page that keeps it, or None if no form was sent."""
    if request.method != "POST":
        return None
    # Another site could otherwise put its text into the form.
    is_foreign = is_cross_origin(request.headers, web.settings.base_url)
    return {} if is_foreign else getattr(request.state, "form", {})


async def _session_expired_page(web: Services, request: Request) -> Response:
    """Return the page that keeps what was typed, either as a draft or as hidden fields."""
    form = _typed_form(web, request) or {}
    typed = {name: value for name, value in form.items() if value and name != "csrf"}
    draft_path = await keep_late_form(web, request) if typed else None
    return web.pages(
        "session-expired",
        401,
        typed=typed,
        path=_path(request),
        is_kept=draft_path is not None,
        sign_in=sign_in_path(draft_path or "/"),
    )


def _path(request: Request) -> str:
    """Return the path and the query of a request, without the path of the public URL."""
    query = request.url.query
    return quote(request.scope["path"]) + (f"?{query}" if query else "")


def _add_sign_in_pages(app: FastAPI, services: Services) -> None:
    pages = services.pages

    @app.exception_handler(NotSignedIn)
    async def not_signed_in(request: Request, error: NotSignedIn) -> Response:
        # A script could not follow the redirect, which leads to the identity provider.
        if listens_for_events(request) or request.method not in ("GET", "HEAD"):
            services.security_log.write(request, Event.SESSION, Outcome.FAILURE)
            return await _session_expired_page(services, request)
        path = _path(request)
        is_company_missing = isinstance(error, CompanyMissing)
        target = company_path(path) if is_company_missing else sign_in_path(path)
        return RedirectResponse(pages.root + target, 303)

    @app.exception_handler(sign_in.NoProvider)
    async def no_provider(_: Request, __: sign_in.NoProvider) -> Response:
        return pages("no-provider", 501)

    @app.exception_handler(ProviderDown)
    async def provider_down(_: Request, error: ProviderDown) -> Response:
        _log.warning("responded 503, the identity provider is down: %s", error)
        headers = dict.fromkeys(("Retry-After", "Refresh"), str(RETRY_AFTER_SECONDS))
        return pages("provider-down", 503, headers)
