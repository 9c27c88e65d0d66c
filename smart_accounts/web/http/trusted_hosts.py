"""The host names that the web application responds to."""

from ipaddress import ip_address
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from smart_accounts.web.http.problem import problem

_INTERNAL = ("/healthz", "/readyz", "/hooks/bounces")  # allowed under any host name
_FOR_PROGRAMS = ("/api/", "/codec/", "/openapi.json", "/static/")


class TrustedHosts:
    """Responds only under the public host name and loopback addresses.

    Under another name, a page could be cached or shown as part of another site. On a developer's
    machine, pages redirect from ``localhost`` to ``127.0.0.1`` or the reverse, because forms and
    sign-ins work only under the public address.
    """

    def __init__(self, app: ASGIApp, base_url: str) -> None:
        self._app = app
        self._base_url = base_url
        self._host = urlsplit(base_url).hostname or ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _INTERNAL:
            host = _name(Headers(scope=scope).get("host", ""))
            if host != self._host:
                response = self._response_elsewhere(host, scope)
                if response:
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _response_elsewhere(self, host: str, scope: Scope) -> Response | None:
        path = scope["path"]
        if not _is_loopback(host):
            return _misdirected(path)
        is_page = scope["method"] in ("GET", "HEAD") and not path.startswith(_FOR_PROGRAMS)
        if not is_page or not _is_loopback(self._host):
            return None
        query = scope["query_string"].decode("latin-1")
        return RedirectResponse(self._base_url + quote(path) + (f"?{query}" if query else ""))


def _misdirected(path: str) -> Response:
    text = "This is not the address of this service."
    return problem(421, text) if path.startswith("/api/") else PlainTextResponse(text, 421)


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
