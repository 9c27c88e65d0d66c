"""The part of the API description about webhooks: what the service sends to an endpoint."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from smart_accounts.contract.webhooks import SUBSCRIBABLE, EventType
from smart_accounts.store.request_view import ChangedRequest
from smart_accounts.web.webhooks.labels import DELIVERED_LABELS

MEDIA_TYPE = "application/cloudevents+json"

_HEADERS = {
    "webhook-id": "The id of the event. It is the same each time the event is sent.",
    "webhook-timestamp": "When this message was sent, in seconds since 1970.",
    "webhook-signature": "The signatures, separated by spaces, as Standard Webhooks specifies.",
}


class CloudEvent(BaseModel):
    """The fields of every event (CloudEvents 1.0)."""

    specversion: Literal["1.0"]
    id: str = Field(description="The same as the header `webhook-id`.")
    source: str = Field(description="The address of this service.")
    type: EventType
    time: datetime = Field(description="When it happened.")
    datacontenttype: Literal["application/json"]


class RequestEvent(CloudEvent):
    """Something happened to a request. `data` is the request as it was right after that."""

    subject: str = Field(description="The `request_id`.")
    data: ChangedRequest


class Ping(BaseModel):
    """What a test event has in `data`."""

    endpoint_id: str


class PingEvent(CloudEvent):
    """A test event, which the owner of the endpoint sent."""

    data: Ping


def webhook_section(reference: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the section `webhooks` and its schemas. ``reference`` is the place of a schema."""
    models = (RequestEvent, PingEvent)
    _, schemas = models_json_schema(
        [(model, "serialization") for model in models], ref_template=reference
    )
    bodies = dict.fromkeys(SUBSCRIBABLE, RequestEvent) | {EventType.PING: PingEvent}
    section = {
        type_.value: {"post": _message(type_, reference.format(model=model.__name__))}
        for type_, model in bodies.items()
    }
    return section, schemas["$defs"]


def _message(type_: EventType, body: str) -> dict[str, Any]:
    """Return the description of one event as a message to the endpoint."""
    only = {"properties": {"type": {"const": type_.value}}}
    return {
        "summary": DELIVERED_LABELS[type_],
        "operationId": type_.value,
        "tags": ["webhooks"],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "required": True,
                "description": text,
                "schema": {"type": "string"},
            }
            for name, text in _HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"allOf": [{"$ref": body}, only]}}},
        },
        "responses": {
            "2XX": {"description": "The endpoint has the event."},
            "default": {"description": "The event is sent again later."},
        },
    }
