"""The codec server, which lets operators read encrypted payloads in Temporal's Web UI and CLI.

Both programs send the payloads that they got from Temporal, and show what comes back. The Web UI
does this in the operator's browser, as a page of another origin.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from starlette.middleware.cors import CORSMiddleware
from temporalio.api.common.v1 import Payload

from smart_accounts.errors import Unavailable
from smart_accounts.store.sessions import Partner, Session
from smart_accounts.temporal.codec import UnknownKey, UnreadablePayload
from smart_accounts.web.api.bearer import Credentials, caller
from smart_accounts.web.dependencies import Audit, CurrentSession, Services, Web
from smart_accounts.web.http.forms import read_body
from smart_accounts.web.http.origins import is_cross_origin, origin_of
from smart_accounts.web.http.problem import add_problems
from smart_accounts.web.security_log import Event, Outcome

PATH = "/codec"
MAX_BODY = 512 * 1024  # bytes; enough for the largest payload that a worker reads, in base64
MAX_PAYLOADS = 500
MAX_METADATA = 20  # entries of a payload; ours have three at most

router = APIRouter(include_in_schema=False)


async def _operator(
    request: Request, credentials: Credentials, session: CurrentSession, web: Web, audit: Audit
) -> Partner:
    """Return the operator who is signed in, or whose access token the call carries.

    Raises:
        HTTPException: 401, nobody is signed in and no token is valid; 403, it is not an operator,
            or a page of another site sends the call with the operator's session.
        Unavailable: the database or the identity provider is down.
    """
    if credentials is None and isinstance(session, Unavailable):
        raise session
    if credentials is None and isinstance(session, Session):
        if _is_foreign(request, web):
            web.security_log.write(request, Event.CROSS_SITE, Outcome.FAILURE, "origin")
            raise HTTPException(403)
        partner = session.partner
    else:
        partner = await caller(request, credentials, web, audit)
    if not partner.is_operator:
        web.security_log.write(request, Event.ACCESS, Outcome.FAILURE)
        raise HTTPException(403, "Only operators may read what Temporal stores.")
    return partner


def _is_foreign(request: Request, web: Services) -> bool:
    """Return True if a page sent the call that is neither the Web UI's nor ours."""
    urls = [url for url in (web.settings.public_url, web.settings.temporal_ui_url) if url]
    return all(is_cross_origin(request.headers, str(url)) for url in urls)


Operator = Annotated[Partner, Depends(_operator)]


@router.post("/encode")
async def encode(request: Request, _: Operator, web: Web) -> Response:
    """Encrypt payloads for a program that has no key."""
    body = await read_body(request, MAX_BODY)
    return JSONResponse({"payloads": changed_payloads(body, web.payload_cipher.encrypt)})


@router.post("/decode")
async def decode(request: Request, _: Operator, web: Web) -> Response:
    """Decrypt payloads. Those that are not encrypted or cannot be decrypted stay the same."""

    def decrypt(payload: Payload) -> Payload | None:
        try:
            return web.payload_cipher.decrypt(payload)
        except (UnknownKey, UnreadablePayload):
            return None

    body = await read_body(request, MAX_BODY)
    return JSONResponse({"payloads": changed_payloads(body, decrypt)})


def changed_payloads(body: bytes, change: Callable[[Payload], Payload | None]) -> list[Any]:
    """Return the payloads in the body, each one changed unless ``change`` returns None.

    Raises:
        HTTPException: 400, the body is not a list of payloads; 413, there are too many.
    """
    try:
        payloads: list[Any] = json.loads(body).get("payloads", [])
        if len(payloads) > MAX_PAYLOADS:
            raise HTTPException(413)
        return [MessageToDict(new) if (new := change(_parsed(each))) else each for each in payloads]
    except (ValueError, TypeError, AttributeError, RecursionError, ParseError):
        raise HTTPException(400, "The body must be a list of payloads in JSON.") from None


def _parsed(payload: dict[str, Any]) -> Payload:
    if len(payload.get("metadata", {})) > MAX_METADATA:
        raise ValueError("too much metadata")
    return ParseDict(payload, Payload())


def add_codec_server(app: FastAPI, services: Services) -> None:
    """Add the codec server to the web application."""
    codec = FastAPI(openapi_url=None, redirect_slashes=False, telemetry={"tracing": False})
    codec.state.services = services
    codec.router.routes.extend(router.routes)
    add_problems(codec, (router,), services.security_log)
    ui = services.settings.temporal_ui_url
    codec.add_middleware(
        CORSMiddleware,
        allow_origins=[origin_of(ui)] if ui else [],
        allow_methods=["POST"],
        allow_headers=["authorization", "content-type", "x-namespace"],
        allow_credentials=True,
    )
    app.mount(PATH, codec)
