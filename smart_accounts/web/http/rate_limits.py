"""How often one client may send forms, call the API, sign in or try unknown links."""

import math
import time
from ipaddress import IPv6Address, ip_network

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smart_accounts.web.auth.provider import CALLBACK
from smart_accounts.web.http.client_address import client_address
from smart_accounts.web.http.problem import problem
from smart_accounts.web.rendering import Pages
from smart_accounts.web.security_log import Event, Outcome, SecurityLog

# Each has a namespace, because two limits of the same size would share one count.
FORMS = RateLimitItemPerMinute(120, namespace="forms")
API_CALLS = RateLimitItemPerMinute(600, namespace="api-calls")  # new requests have other limits too
# Low, because most of them make the service look up or call a host that the partner names.
WEBHOOKS = RateLimitItemPerMinute(60, namespace="webhooks")
# High, because the Web UI sends the payloads of each event of a history separately.
CODEC_CALLS = RateLimitItemPerMinute(1200, namespace="codec-calls")
# High, because a sign-in takes two to five requests and a whole office may share one address. It
# is limited because these requests make the service call the identity provider.
SIGN_INS = RateLimitItemPerMinute(1200, namespace="sign-ins")
FAILED_SIGN_INS = RateLimitItemPerMinute(30, namespace="failed-sign-ins")
UNKNOWN_LINKS = RateLimitItemPerMinute(30, namespace="unknown-links")


class RateLimits:
    """Counts per client address, in this process.

    Opening a valid link is not limited. Failed sign-ins do not block a sign-in that succeeds.
    """

    def __init__(self, app: ASGIApp, pages: Pages, security_log: SecurityLog) -> None:
        self._app = app
        self._pages = pages
        self._security_log = security_log
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        item = _limit_of(scope)
        if item and not self._limiter.hit(item, _client(scope)):
            await self._too_many(item, scope)(scope, receive, send)
            return
        response: Response | None = None

        async def send_unless_limited(message: Message) -> None:
            nonlocal response
            if message["type"] == "http.response.start":
                failure = _limit_of_failures(scope, message["status"])
                if failure is UNKNOWN_LINKS:
                    self._security_log.write(HTTPConnection(scope), Event.LINK, Outcome.FAILURE)
                if failure and not self._limiter.hit(failure, _client(scope)):
                    response = self._too_many(failure, scope)
            if response is None:
                await send(message)

        await self._app(scope, receive, send_unless_limited)
        if response:
            await response(scope, receive, send)

    def _too_many(self, item: RateLimitItem, scope: Scope) -> Response:
        call = HTTPConnection(scope)
        self._security_log.write(call, Event.RATE_LIMIT, Outcome.FAILURE, item.namespace)
        stats = self._limiter.get_window_stats(item, _client(scope))
        headers = {"Retry-After": str(max(1, math.ceil(stats.reset_time - time.time())))}
        if scope["path"].startswith(("/api/", "/codec/")):
            detail = "This address has sent too many requests within a minute."
            return problem(429, detail, None, headers)
        return self._pages("too-many-requests", 429, headers)


def _limit_of(scope: Scope) -> RateLimitItem | None:
    if scope["method"] not in ("POST", "PATCH", "DELETE"):
        return SIGN_INS if scope["path"].startswith("/sign-in") else None
    if scope["path"].startswith("/codec/"):
        return CODEC_CALLS
    if scope["path"].startswith(("/webhooks", "/api/v1/webhooks")):
        return WEBHOOKS
    return API_CALLS if scope["path"].startswith("/api/") else FORMS


def _limit_of_failures(scope: Scope, status: int) -> RateLimitItem | None:
    if scope["path"].startswith("/activate/") and status == 404:
        return UNKNOWN_LINKS
    if scope["path"] == CALLBACK and 400 <= status < 500:
        return FAILED_SIGN_INS
    return None


def _client(scope: Scope) -> str:
    """Return the address that is counted. An IPv6 network of 2⁶⁴ addresses counts as one client."""
    address = client_address(scope)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    if address is None:
        return str(scope["client"][0]) if scope["client"] else ""
    return str(address)
