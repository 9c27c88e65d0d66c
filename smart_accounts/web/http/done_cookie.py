"""What a form has just done, for the page to which it redirects. The page shows it once."""

from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

COOKIE = "news"
SECONDS = 60


def redirect_with_done(base_url: str, path: str, done: str) -> Response:
    """Redirect to a page of this site, which shows what was done."""
    response = RedirectResponse(urlsplit(base_url).path + path, 303)
    response.set_cookie(
        COOKIE,
        done,
        max_age=SECONDS,
        path=_cookie_path(base_url, path),
        secure=base_url.startswith("https:"),
        httponly=True,
        samesite="lax",
    )
    return response


def done_of(request: Request) -> str:
    """Return what was done before this page, or an empty text."""
    return request.cookies.get(COOKIE, "")


def forget_done(response: Response, base_url: str, path: str) -> None:
    """Delete the cookie after the page has shown what was done."""
    response.delete_cookie(COOKIE, path=_cookie_path(base_url, path))


def _cookie_path(base_url: str, path: str) -> str:
    return urlsplit(base_url).path + path.partition("?")[0]
