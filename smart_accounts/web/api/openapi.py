"""The API's description: ``/openapi.json`` for programs, ``/docs`` for people."""

import functools
import re
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from markupsafe import Markup, escape

from smart_accounts.settings import Settings
from smart_accounts.web.auth.session import header_of
from smart_accounts.web.http.problem import Problem
from smart_accounts.web.rendering import Pages

VERSION = "1.0"
_SUMMARY = "Request Smart Accounts for customers, follow them, act on them."
_REFERENCE = "#/components/schemas/{model}"


def describe(api: FastAPI, mounted_at: str, settings: Settings) -> dict[str, Any]:
    """The OpenAPI document, made of the routes themselves."""
    document = get_openapi(
        title="Smart Account requests",
        version=VERSION,
        summary=_SUMMARY,
        description="Errors are problems of RFC 9457. Times are UTC. Answers may get more fields.",
        routes=api.routes,
        servers=[{"url": settings.base_url}],
    )
    document["paths"] = {mounted_at + path: item for path, item in document["paths"].items()}
    schema = Problem.model_json_schema(ref_template=_REFERENCE)
    schemas = document["components"]["schemas"]
    schemas |= {**schema.pop("$defs"), "Problem": schema}
    return document


def description_routes(describe_api: Callable[[], dict[str, Any]], page: Pages) -> APIRouter:
    router = APIRouter(include_in_schema=False)
    # Built on the first request, because building it takes half of the application's start-up time.
    document_once = functools.cache(describe_api)

    @router.api_route("/openapi.json", methods=["GET", "HEAD"])
    async def openapi() -> Response:
        return JSONResponse(document_once())

    @router.api_route("/docs", methods=["GET", "HEAD"])
    async def docs(request: Request) -> Response:
        document = document_once()
        operations = _operations(document)
        return page("docs", **header_of(request), api=document, operations=operations, words=_words)

    return router


def _words(text: str) -> Markup:
    """A description's text, what stands in backticks as code."""
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "method": method.upper(),
            "path": path,
            "parameters": operation.get("parameters", ()),
            "fields": _fields(document, operation),
            **{name: operation[name] for name in ("summary", "description", "responses")},
        }
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def _fields(document: dict[str, Any], operation: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of an operation's body."""
    if "requestBody" not in operation:
        return []
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    reference = schema.get("$ref") or schema["anyOf"][0]["$ref"]
    model = document["components"]["schemas"][reference.rpartition("/")[2]]
    required = model.get("required", ())
    return [
        {"name": name, "required": name in required, "description": told.get("description", "")}
        for name, told in model["properties"].items()
    ]
