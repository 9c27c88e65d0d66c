"""The SMTP server and the web server of the mailbox. Only this machine can connect to them."""

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

from smart_accounts.local.mailbox import MAX_EMAIL_BYTES, Mailbox, ReceivedEmail
from smart_accounts.local.previews import previews

HOST = "127.0.0.1"

_FOLDER = Path(__file__).parent
_templates = Jinja2Templates(_FOLDER / "templates")

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; frame-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# An email may be hostile. Its page runs no script, loads nothing and submits nothing. The page has
# an origin of its own, even when it is opened outside the frame.
_EMAIL_HEADERS = _PAGE_HEADERS | {
    "Content-Security-Policy": "sandbox allow-popups allow-popups-to-escape-sandbox; "
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
}
# Open links in a new tab, because the sandbox does not apply there and the linked page works. The
# email's own doctype, html and head tags may follow: every HTML parser merges them.
_EMAIL_PROLOGUE = '<!doctype html><base target="_blank">'


def _mailbox(request: Request) -> Mailbox:
    mailbox: Mailbox = request.app.state.mailbox
    return mailbox


def _email(request: Request) -> ReceivedEmail:
    email = _mailbox(request).get(request.path_params["email_id"])
    if email is None:
        raise HTTPException(
            404, "This email does not exist. The mailbox is emptied at every restart."
        )
    return email


def _page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    return _templates.TemplateResponse(request, template, context, status, _PAGE_HEADERS)


async def _error_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _page(request, "error.html", error.status_code, message=error.detail)


async def _list_page(request: Request) -> Response:
    return _page(request, "emails.html", emails=list(_mailbox(request)))


async def _email_page(request: Request) -> Response:
    return _page(request, "email.html", email=_email(request), base_path="/view")


async def _email_html(request: Request) -> Response:
    return HTMLResponse(_EMAIL_PROLOGUE + _email(request).html, headers=_EMAIL_HEADERS)


async def _previews_page(request: Request) -> Response:
    return _page(request, "previews.html", emails=previews().values())


def _preview(request: Request) -> ReceivedEmail:
    email = previews().get(request.path_params["name"])
    if email is None:
        raise HTTPException(404, "This email does not exist.")
    return email


async def _preview_page(request: Request) -> Response:
    return _page(request, "email.html", email=_preview(request), base_path="/preview")


async def _preview_html(request: Request) -> Response:
    return HTMLResponse(_EMAIL_PROLOGUE + _preview(request).html, headers=_EMAIL_HEADERS)


async def _messages(request: Request) -> Response:
    summaries = [email.summary for email in _mailbox(request)]
    return JSONResponse({"total": len(summaries), "messages": summaries})


async def _message(request: Request) -> Response:
    return JSONResponse(_email(request).details)


async def _headers(request: Request) -> Response:
    return JSONResponse(_email(request).headers)


def mailbox_app(mailbox: Mailbox) -> Starlette:
    """Return the web application with the pages and the JSON API.

    It checks the Host header. Otherwise another site could read the emails through a host name of
    its own that resolves to this machine (DNS rebinding).
    """
    app = Starlette(
        routes=[
            Route("/", _list_page),
            Route("/view/{email_id}.html", _email_html),
            Route("/view/{email_id}", _email_page),
            Route("/preview", _previews_page),
            Route("/preview/{name}.html", _preview_html),
            Route("/preview/{name}", _preview_page),
            Route("/api/v1/messages", _messages),
            Route("/api/v1/message/{email_id}", _message),
            Route("/api/v1/message/{email_id}/headers", _headers),
            Mount("/static", StaticFiles(directory=_FOLDER / "static")),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        exception_handlers={HTTPException: _error_page},
    )
    app.state.mailbox = mailbox
    return app


class _ServerWithoutSignals(uvicorn.Server):
    """A web server that leaves signals alone, because the supervisor handles them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_mailbox(smtp_port: int, page_port: int) -> AsyncIterator[None]:
    """Receive and show emails inside the block.

    Raises:
        OSError: a port cannot be bound.
    """
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    # Bind the port here, because uvicorn would exit the whole program if it could not bind it.
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
        pages = _ServerWithoutSignals(config)
        serving = asyncio.create_task(pages.serve(sockets=[listener]))
        try:
            yield
        finally:
            pages.should_exit = True
            await serving
            smtp.close()
