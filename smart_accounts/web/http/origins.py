"""Where a request comes from, and where a response may redirect to."""

import re
from urllib.parse import urlencode

from pydantic import AnyHttpUrl, ValidationError
from starlette.datastructures import Headers

# Exactly one leading slash, no backslash and no whitespace, because browsers read "//", "/\" and
# "/<tab>/" as the beginning of another host.
_LOCAL_PATH = re.compile(r"/(?!/)[!-\[\]-~]{0,1000}")


def _origin(url: str) -> str | None:
    try:
        found = AnyHttpUrl(url)
    except ValidationError:
        return None
    return f"{found.scheme}://{found.host}:{found.port}"


def origin_of(url: AnyHttpUrl) -> str:
    """Return the origin of a URL as browsers send it, without the port if it is the usual one."""
    return "/".join(str(url).split("/", 3)[:3])


def is_cross_origin(headers: Headers, public_url: str) -> bool:
    """Return True if ``Origin`` or ``Referer`` names another site or is null.

    Without both headers, return False.
    """
    urls = headers.getlist("origin") + headers.getlist("referer")
    return any(_origin(url) != _origin(public_url) for url in urls)


def is_own_origin(headers: Headers, public_url: str) -> bool:
    """Return True if ``Origin`` or ``Referer`` shows that a page of this site sent the request."""
    is_stated = "origin" in headers or "referer" in headers
    return is_stated and not is_cross_origin(headers, public_url)


def local_path(path: str) -> str:
    """Return ``path`` if it is a path on this site, with its query, otherwise the start page."""
    return path if _LOCAL_PATH.fullmatch(path) else "/"


def sign_in_path(next_page: str) -> str:
    """Return the path of the sign-in, which continues to ``next_page``."""
    return f"/sign-in?{urlencode({'next': next_page})}"


def company_path(next_page: str) -> str:
    """Return the path of the question for the company, which continues to ``next_page``."""
    return f"/sign-in/company?{urlencode({'next': next_page})}"
