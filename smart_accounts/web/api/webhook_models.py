"""The bodies of the API for webhook endpoints. They grow by optional fields only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, WithJsonSchema

from smart_accounts.contract.fields import MAX_DESCRIPTION, Description
from smart_accounts.contract.messages import Message
from smart_accounts.contract.webhooks import (
    SUBSCRIBABLE,
    DeliveryState,
    EndpointState,
    EventType,
)
from smart_accounts.store.request_view import ResponseBody
from smart_accounts.store.webhook_records import Delivery, Endpoint
from smart_accounts.web.webhooks.endpoints import EndpointFields, EventTypes
from smart_accounts.webhooks.addresses import MAX_URL

# ---- request bodies ------------------------------------------------------------------------

_URL = "Where the messages are sent. It must begin with `https://` and have a public address."
_DESCRIPTION = f"For yourself, at most {MAX_DESCRIPTION} characters on one line."
_EVENTS = "When a message is sent. `ping` cannot be chosen, because every endpoint receives it."
_STATE = "`paused` keeps the messages until the endpoint is `enabled` again."

_SUBSCRIBABLE: dict[str, Any] = {"type": "string", "enum": list(SUBSCRIBABLE)}
_LIST: dict[str, Any] = {"type": "array", "items": _SUBSCRIBABLE, "minItems": 1}


class NewWebhook(Message):
    """An endpoint to register."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/smart-accounts", "event_types": ["request.active"]}
            ]
        }
    )

    url: Annotated[str, Field(max_length=MAX_URL, description=_URL)]
    description: Annotated[Description, Field(description=_DESCRIPTION)] = ""
    event_types: Annotated[
        EventTypes, WithJsonSchema(_LIST), Field(description=f"{_EVENTS} Default: all.")
    ] = SUBSCRIBABLE
    for_all_requests: Annotated[
        bool,
        Field(description="Send events of the requests of all partners. Only operators may do it."),
    ] = False

    @property
    def fields(self) -> EndpointFields:
        return EndpointFields(**self.model_dump(exclude={"for_all_requests"}))


class WebhookChange(Message):
    """What to change of an endpoint. What is absent stays as it is."""

    url: Annotated[str | None, Field(max_length=MAX_URL, description=_URL)] = None
    description: Annotated[Description | None, Field(description=_DESCRIPTION)] = None
    event_types: Annotated[
        EventTypes | None,
        WithJsonSchema(_LIST | {"type": ["array", "null"]}),
        Field(description=_EVENTS),
    ] = None
    state: Annotated[
        Literal[EndpointState.ENABLED, EndpointState.PAUSED] | None, Field(description=_STATE)
    ] = None

    def fields_of(self, endpoint: Endpoint) -> EndpointFields | None:
        """Return the endpoint's new fields, or None if only its state is given."""
        given = self.model_dump(exclude={"state"}, exclude_none=True)
        if not given:
            return None
        known = {name: getattr(endpoint, name) for name in EndpointFields.model_fields}
        return EndpointFields(**known | given)


# ---- response bodies -----------------------------------------------------------------------


class Webhook(ResponseBody):
    """An endpoint. `failing_since` is the time of the first of the failures in a row."""

    id: str
    url: str
    description: str
    event_types: tuple[EventType, ...]
    for_all_requests: bool
    state: EndpointState
    created_at: datetime
    previous_secret_until: datetime | None
    """Until then, each message is also signed with the previous secret."""
    failing_since: datetime | None
    disabled_at: datetime | None

    @classmethod
    def of(cls, endpoint: Endpoint, **more: str) -> Self:
        fields = {name: getattr(endpoint, name) for name in Webhook.model_fields}
        return cls.model_validate(fields | more)


class WebhookWithSecret(Webhook):
    """An endpoint with its `secret`, which is shown only this once."""

    secret: str


class WebhookList(ResponseBody):
    items: tuple[Webhook, ...]


class WebhookDelivery(ResponseBody):
    """A message to an endpoint, and what became of the last try to send it.

    `webhook_id` is the header `webhook-id`. `error` says why the last try failed, and `response`
    has the first 300 characters of what the server sent.
    """

    id: str
    webhook_id: str
    type: str
    request_id: str | None
    sequence: int | None
    state: DeliveryState
    created_at: datetime
    next_at: datetime | None
    """When it is tried next, while it is pending."""
    attempts: int
    last_at: datetime | None
    status_code: int | None
    error: str | None
    response: str | None
    took_ms: int | None

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        names = cls.model_fields.keys() - {"webhook_id", "next_at"}
        fields = {name: getattr(delivery, name) for name in names}
        is_pending = delivery.state is DeliveryState.PENDING
        own = {
            "webhook_id": delivery.event_id,
            "next_at": delivery.next_at if is_pending else None,
        }
        return cls.model_validate(fields | own)


class WebhookDeliveryList(ResponseBody):
    items: tuple[WebhookDelivery, ...]

    @classmethod
    def of(cls, deliveries: Sequence[Delivery]) -> Self:
        return cls(items=tuple(WebhookDelivery.of(each) for each in deliveries))


class QueuedDelivery(ResponseBody):
    """The `delivery_id` of a message that is on its way."""

    delivery_id: str
