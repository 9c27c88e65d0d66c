"""Where a request comes from, and where an answer may send it."""

import re
from urllib.parse import urlencode

from pydantic import AnyHttpUrl, ValidationError
from starlette.datastructures import Headers

# One slash and not two, no backslash, no blank: browsers read "//", "/\" and "/<tab>/" as the
# beginning of another host.
_LOCAL_PATH = re.compile(r"/(?!/)[!-\[\]-~]{0,1000}")


def _origin(url: str) -> str | None:
    try:
        found = AnyHttpUrl(url)
    except ValidationError:
        return None
    return f"{found.scheme}://{found.host}:{found.port}"


def comes_from_elsewhere(headers: Headers, public_url: str) -> bool:
    """Whether a browser says that another site sent the form; ``null`` is another site too."""
    named = headers.getlist("origin") + headers.getlist("referer")
    return any(_origin(each) != _origin(public_url) for each in named)


def local_path(wanted: str) -> str:
    """``wanted`` if it is a path of ours, with its query, and the start page if it is not."""
    return wanted if _LOCAL_PATH.fullmatch(wanted) else "/"


def to_sign_in(wanted: str) -> str:
    """The path that leads to ``wanted`` by a sign-in."""
    return f"/sign-in?{urlencode({'next': wanted})}"


def asking_for_company(wanted: str) -> str:
    """The path that leads to ``wanted`` by the question for the company."""
    return f"/sign-in/company?{urlencode({'next': wanted})}"
