"""The mailbox's two servers: SMTP in, pages and JSON out. Both listen on this machine alone."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from smart_accounts.local.mailbox import MAX_EMAIL_BYTES, Mail, Mailbox
from smart_accounts.local.previews import previews

HOST = "127.0.0.1"

_here = Path(__file__).parent
_templates = Jinja2Templates(_here / "templates")

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; frame-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# Emails are hostile until proven otherwise: this page runs nothing, loads nothing, submits nothing,
# and has an origin of its own even when it is opened outside of the frame.
_MAIL_HEADERS = _PAGE_HEADERS | {
    "Content-Security-Policy": "sandbox allow-popups allow-popups-to-escape-sandbox; "
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
}
# Links open in a tab of their own, where the page they lead to works; the email's own doctype, html
# and head tags that follow are merged by every HTML parser.
_MAIL_PROLOGUE = '<!doctype html><base target="_blank">'


def _mailbox(request: Request) -> Mailbox:
    mailbox: Mailbox = request.app.state.mailbox
    return mailbox


def _mail(request: Request) -> Mail:
    mail = _mailbox(request).get(request.path_params["mail_id"])
    if mail is None:
        raise HTTPException(
            404, "There is no such email; the mailbox forgets when it is restarted."
        )
    return mail


def _page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    return _templates.TemplateResponse(request, template, context, status, _PAGE_HEADERS)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page(request, "refused.html", error.status_code, words=error.detail)


async def _list_page(request: Request) -> Response:
    return _page(request, "mails.html", mails=list(_mailbox(request)))


async def _mail_page(request: Request) -> Response:
    return _page(request, "mail.html", mail=_mail(request), at="/view")


async def _mail_html(request: Request) -> Response:
    return HTMLResponse(_MAIL_PROLOGUE + _mail(request).html, headers=_MAIL_HEADERS)


async def _previews_page(request: Request) -> Response:
    return _page(request, "previews.html", mails=previews().values())


def _preview(request: Request) -> Mail:
    mail = previews().get(request.path_params["name"])
    if mail is None:
        raise HTTPException(404, "There is no such email.")
    return mail


async def _preview_page(request: Request) -> Response:
    mail = _preview(request)
    return _page(request, "mail.html", mail=mail, at="/preview")


async def _preview_html(request: Request) -> Response:
    return HTMLResponse(_MAIL_PROLOGUE + _preview(request).html, headers=_MAIL_HEADERS)


async def _messages(request: Request) -> Response:
    mails = [mail.summary for mail in _mailbox(request)]
    return JSONResponse({"total": len(mails), "messages": mails})


async def _message(request: Request) -> Response:
    return JSONResponse(_mail(request).details)


async def _headers(request: Request) -> Response:
    return JSONResponse(_mail(request).headers)


def mailbox_app(mailbox: Mailbox) -> Starlette:
    """The pages and the JSON. The host check keeps other sites' pages from reading the emails."""
    app = Starlette(
        routes=[
            Route("/", _list_page),
            Route("/view/{mail_id}.html", _mail_html),
            Route("/view/{mail_id}", _mail_page),
            Route("/preview", _previews_page),
            Route("/preview/{name}.html", _preview_html),
            Route("/preview/{name}", _preview_page),
            Route("/api/v1/messages", _messages),
            Route("/api/v1/message/{mail_id}", _message),
            Route("/api/v1/message/{mail_id}/headers", _headers),
            Mount("/static", StaticFiles(directory=_here / "static")),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        exception_handlers={HTTPException: _refused},
    )
    app.state.mailbox = mailbox
    return app


class _GuestServer(uvicorn.Server):
    """A web server inside a program that handles the signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_mailbox(smtp_port: int, page_port: int) -> AsyncIterator[None]:
    """Receive and show emails inside the block.

    Raises:
        OSError: a port can't be bound.
    """
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    # Bound here, since uvicorn would end the whole program if it could not.
    with socket.create_server((HOST, page_port)) as listener:
        smtp = await loop.create_server(
            lambda: SMTP(mailbox, hostname="localhost", data_size_limit=MAX_EMAIL_BYTES, loop=loop),
            HOST,
            smtp_port,
        )
        config = uvicorn.Config(
            mailbox_app(mailbox),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        pages = _GuestServer(config)
        serving = asyncio.create_task(pages.serve(sockets=[listener]))
        try:
            yield
        finally:
            pages.should_exit = True
            await serving
            smtp.close()
