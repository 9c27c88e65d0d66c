"""JSON bodies, with a check of their length and media type."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.web.http.forms import read_body

MAX_BODY = 16 * 1024  # bytes; enough for two of the longest notes and fifty addresses
MAX_QUERY = 4 * 1024  # bytes; the longest search, percent-encoded, has 3 KB


class JsonRoute(APIRoute):
    """A route with limits on body and query. The body must be JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def limited(request: Request) -> Response:
            if len(request.scope["query_string"]) > MAX_QUERY:
                # Checking thousands of unknown parameters takes a quarter of a second.
                message = f"has more than {MAX_QUERY} bytes of parameters"
                raise BadInput([FieldError(field="request", message=message)])
            body = await read_body(request, MAX_BODY)
            media_type = request.headers.get("content-type", "").partition(";")[0]
            if body and self.body_field and media_type.strip().lower() != "application/json":
                raise HTTPException(415, "The body must be application/json.")

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": body, "more_body": False}

            return await handle(Request(request.scope, receive))

        return limited
