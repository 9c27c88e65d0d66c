"""Webhooks: the events, and the messages between the delivery workflow and its activity."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from smart_accounts.contract.messages import OwnMessage, Status


class EventType(StrEnum):
    """What happened. The body of a delivery has it as ``type``."""

    IN_REVIEW = "request.in_review"
    PENDING = "request.pending"
    ACTIVE = "request.active"
    DECLINED = "request.declined"
    LAPSED = "request.lapsed"
    WITHDRAWN = "request.withdrawn"
    UNDELIVERABLE = "request.undeliverable"
    REJECTED = "request.rejected"
    APPROVER_REPLACED = "request.approver_replaced"
    EMAIL_BOUNCED = "email.bounced"
    ACCOUNT_CLOSED = "account.closed"
    PING = "ping"
    """A test that the endpoint's owner sends. An endpoint cannot subscribe to it."""

    @classmethod
    def of(cls, status: Status) -> "EventType":
        """Return the event for a request that now has this status."""
        return cls(f"request.{status}")


SUBSCRIBABLE = tuple(each for each in EventType if each is not EventType.PING)
"""The types that an endpoint can subscribe to."""


class EndpointState(StrEnum):
    """The state of an endpoint. A paused endpoint keeps its events, a disabled one gets none."""

    ENABLED = "enabled"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class DeliverWebhooks(OwnMessage):
    """Deliver what is due to one endpoint. It is the input of the workflow and of its activity."""

    # Temporal's clients can start the workflow with any text, and PostgreSQL takes no NUL.
    endpoint_id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]


class Delivered(OwnMessage):
    """Result of the activity. ``next_at`` is when the next delivery is due, None if none waits."""

    next_at: datetime | None = None
