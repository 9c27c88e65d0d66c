"""Bodies of requests, read no further than they may be long."""

from fastapi import HTTPException, Request


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
