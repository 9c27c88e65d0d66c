"""The description of the API: ``/openapi.json`` for programs, ``/docs`` for people."""

import re
from functools import cached_property
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from markupsafe import Markup, escape

from smart_accounts.settings import Settings
from smart_accounts.web.api.webhook_events import webhook_section
from smart_accounts.web.dependencies import Page
from smart_accounts.web.http.problem import Problem

VERSION = "1.0"
_SUMMARY = "Request Smart Accounts for customers, follow the requests and act on them."
_DESCRIPTION = (
    "Errors are RFC 9457 problems. Times are in UTC. New fields may be added to responses."
)
_REFERENCE = "#/components/schemas/{model}"


class Document:
    """The OpenAPI document, made from the routes."""

    def __init__(self, api: FastAPI, path: str, settings: Settings) -> None:
        self._api = api
        self._path = path
        self._settings = settings

    @cached_property  # built when first used, because this takes half of the start time
    def content(self) -> dict[str, Any]:
        document = get_openapi(
            title="Smart Account requests",
            version=VERSION,
            summary=_SUMMARY,
            description=_DESCRIPTION,
            routes=self._api.routes,
            servers=[{"url": self._settings.base_url}],
        )
        document["paths"] = {self._path + path: item for path, item in document["paths"].items()}
        schema = Problem.model_json_schema(ref_template=_REFERENCE)
        document["webhooks"], events = webhook_section(_REFERENCE)
        schemas = document["components"]["schemas"]
        document["components"]["schemas"] = (
            events | schemas | {**schema.pop("$defs"), "Problem": schema}
        )
        return document


async def _document(request: Request) -> dict[str, Any]:
    document: Document = request.app.state.openapi
    return document.content


Content = Annotated[dict[str, Any], Depends(_document)]

router = APIRouter(include_in_schema=False)


@router.api_route("/openapi.json", methods=["GET", "HEAD"])
async def openapi(document: Content) -> Response:
    return JSONResponse(document)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs(document: Content, page: Page) -> Response:
    events = {name: item["post"]["summary"] for name, item in document["webhooks"].items()}
    return page(
        "docs", api=document, operations=_operations(document), events=events, text=_with_code
    )


def _with_code(text: str) -> Markup:
    """Return a text of the description as HTML, with backticks as code."""
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
    """Return the fields of an operation's body."""
    if "requestBody" not in operation:
        return []
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    model = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    required = model.get("required", ())
    return [
        {"name": name, "required": name in required, "description": field.get("description", "")}
        for name, field in model["properties"].items()
    ]
