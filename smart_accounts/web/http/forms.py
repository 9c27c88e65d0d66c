"""Bodies of requests, read no further than they may be long."""

from urllib.parse import parse_qsl

from fastapi import HTTPException, Request

MAX_FORM = 16 * 1024  # bytes; a note of the longest kind, percent-encoded, has 12 KB


async def read_body(request: Request, limit: int) -> bytes:
    """
    Raises:
        HTTPException: 413, the body is longer than ``limit`` bytes.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413)
    return body


async def read_form(request: Request, limit: int = MAX_FORM) -> dict[str, str]:
    """The fields of a form.

    Raises:
        HTTPException: 413, the form is longer than ``limit`` bytes.
    """
    body = await read_body(request, limit)
    form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    request.state.form = form  # the page about an outage offers to send it again
    return form
