"""Request bodies, with a limit on their length."""

from urllib.parse import parse_qsl

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

MAX_FORM = 16 * 1024  # bytes; the longest note, percent-encoded, has 12 KB


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body.

    Raises:
        HTTPException: 413, the body is longer than ``limit`` bytes; 400, the client has closed the
            connection and sees no response.
    """
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise HTTPException(413)
    except ClientDisconnect:
        raise HTTPException(400) from None
    return body


async def read_form(request: Request, limit: int = MAX_FORM) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        HTTPException: 413, the form is longer than ``limit`` bytes.
    """
    body = await read_body(request, limit)
    form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    request.state.form = form  # during an outage, the error page offers to send it again
    return form
