"""How often one address may send something, sign in, or try links that don't exist."""

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from smart_accounts.web.http.problem import problem
from smart_accounts.web.rendering import Pages

# Each has a name: two of one size are two counts.
SENT = RateLimitItemPerMinute(120, namespace="sent")
# By programs; what they start has a ceiling of its own.
CALLED = RateLimitItemPerMinute(600, namespace="called")
SIGN_INS = RateLimitItemPerMinute(30, namespace="sign-ins")
UNKNOWN_LINKS = RateLimitItemPerMinute(30, namespace="unknown-links")


class RateLimits:
    """Counts by client address, in this process; looking with a good link is never limited.

    The address is what uvicorn makes of it: behind a proxy, the one in ``X-Forwarded-For`` if
    the proxy's own address is among ``FORWARDED_ALLOW_IPS``.
    """

    def __init__(self, app: ASGIApp, page: Pages) -> None:
        self._app = app
        self._page = page
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        item = _limit_of(scope)
        if item and not self._limiter.hit(item, _client(scope)):
            await self._refuse(item, scope)(scope, receive, send)
            return
        if not scope["path"].startswith("/activate/"):
            await self._app(scope, receive, send)
            return
        refused: Response | None = None

        async def watch(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                is_unknown = message["status"] == 404
                if is_unknown and not self._limiter.hit(UNKNOWN_LINKS, _client(scope)):
                    refused = self._refuse(UNKNOWN_LINKS, scope)
            if refused is None:
                await send(message)

        await self._app(scope, receive, watch)
        if refused:
            await refused(scope, receive, send)

    def _refuse(self, item: RateLimitItem, scope: Scope) -> Response:
        stats = self._limiter.get_window_stats(item, _client(scope))
        headers = {"Retry-After": str(max(1, math.ceil(stats.reset_time - time.time())))}
        if scope["path"].startswith("/api/"):
            return problem(429, "This address has sent too much within a minute.", None, headers)
        return self._page("too-many", 429, headers)


def _limit_of(scope: Scope) -> RateLimitItem | None:
    if scope["path"].startswith("/sign-in"):
        return SIGN_INS
    if scope["method"] != "POST":
        return None
    return CALLED if scope["path"].startswith("/api/") else SENT


def _client(scope: Scope) -> str:
    """One line's addresses count as one: of IPv6 a customer has 2⁶⁴ at the least.

    IPv4 in IPv6's clothes, as proxies on both name it, stays IPv4: else all of it were one line.
    """
    host = scope["client"][0] if scope["client"] else ""
    try:
        address = ip_address(host)
    except ValueError:
        return str(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, 64), strict=False))
    return str(address)
