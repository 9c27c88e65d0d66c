"""Errors of the API as RFC 9457 problems."""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from smart_accounts.contract.field_errors import BadInput, FieldError, to_field_errors
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.temporal.logs import with_cause
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS
from smart_accounts.web.security_log import Event, Outcome, SecurityLog
from smart_accounts.web.submission import KeyReused

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)


class WrongField(BaseModel):
    """What is wrong with one field. `field` is `request` if the whole request is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong (RFC 9457). `errors` has one entry per field that is wrong."""

    type: str = Field("about:blank", description="Always `about:blank`; see `status`.")
    title: str
    status: int
    detail: str | None = None
    errors: list[WrongField] | None = None
    retry_at: datetime | None = Field(None, description="When to try again, after a limit.")


def problem(
    status: int,
    detail: str | None = None,
    errors: Sequence[FieldError] | None = None,
    headers: Mapping[str, str] | None = None,
    retry_at: datetime | None = None,
) -> Response:
    title = HTTPStatus(status).phrase
    body = Problem(
        type="about:blank",
        title=title,
        status=status,
        detail=None if detail == title else detail,
        errors=[WrongField(**each.model_dump()) for each in errors] if errors else None,
        retry_at=retry_at,
    )
    content = body.model_dump(mode="json", exclude_none=True)
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def add_problems(api: FastAPI, routers: Sequence[APIRouter], security_log: SecurityLog) -> None:
    """Turn every error into a problem. ``routers`` have the routes of the API."""
    _add_http_errors(api, routers)
    _add_own_errors(api, security_log)


def _add_http_errors(api: FastAPI, routers: Sequence[APIRouter]) -> None:
    @api.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        headers = error.headers
        if error.status_code == 405:  # the framework names the methods of only one route
            headers = {"Allow": ", ".join(sorted(_methods(routers, request)))}
        return problem(error.status_code, error.detail, headers=headers)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        if any(each["type"] == "json_invalid" for each in found):
            return problem(400, "The body is not valid JSON.")
        # The first part of each location is "body" or "query".
        return _invalid_fields(to_field_errors([each | {"loc": each["loc"][1:]} for each in found]))

    @api.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return problem(500, "This is a fault in the service. It has been recorded.")


def _add_own_errors(api: FastAPI, security_log: SecurityLog) -> None:
    @api.exception_handler(BadInput)
    async def bad_input(_: Request, error: BadInput) -> Response:
        return _invalid_fields(error.errors)

    @api.exception_handler(KeyReused)
    async def key_reused(_: Request, error: KeyReused) -> Response:
        return _invalid_fields([FieldError(field="Idempotency-Key", message=str(error))])

    @api.exception_handler(NotFound)
    async def not_found(request: Request, error: NotFound) -> Response:
        security_log.write(request, Event.ACCESS, Outcome.FAILURE)
        return problem(404, str(error))

    @api.exception_handler(Rejected)
    async def rejected(_: Request, error: Rejected) -> Response:
        return problem(409, str(error), retry_at=error.retry_at)

    @api.exception_handler(Unavailable)
    async def unavailable(_: Request, error: Unavailable) -> Response:
        _log.warning("responded 503: %s", with_cause(error))
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return problem(503, error.public_message, headers=headers)


def _methods(routers: Sequence[APIRouter], request: Request) -> set[str]:
    """Return the methods that the path allows."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    return {
        method
        for route in routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


def _invalid_fields(errors: Sequence[FieldError]) -> Response:
    return problem(422, "Nothing was done. See the errors.", errors)
