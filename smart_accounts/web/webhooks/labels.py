"""The names of events, and of the states of endpoints and deliveries, on pages."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from smart_accounts.contract.webhooks import DeliveryState, EndpointState, EventType
from smart_accounts.store.webhook_records import Delivery, Endpoint
from smart_accounts.text import counted, utc

EVENT_LABELS: dict[str, str] = {
    EventType.IN_REVIEW: "An operator has to review a request first",
    EventType.PENDING: "The customer was asked to accept",
    EventType.ACTIVE: "The customer accepted, and the account is active",
    EventType.DECLINED: "The customer declined",
    EventType.LAPSED: "The deadline passed without an answer",
    EventType.WITHDRAWN: "A request was withdrawn",
    EventType.UNDELIVERABLE: "The activation email could not be delivered",
    EventType.REJECTED: "A request was rejected",
    EventType.APPROVER_REPLACED: "Another person is asked to accept",
    EventType.EMAIL_BOUNCED: "An email came back",
    EventType.ACCOUNT_CLOSED: "An account was closed",
}
"""The events that an endpoint can be registered for."""

DELIVERED_LABELS = EVENT_LABELS | {EventType.PING: "Test event"}

ENDPOINT_LABELS = {
    EndpointState.ENABLED: "Enabled",
    EndpointState.PAUSED: "Paused",
    EndpointState.DISABLED: "Disabled",
}
ENDPOINT_TONES = {
    EndpointState.ENABLED: "good",
    EndpointState.PAUSED: "plain",
    EndpointState.DISABLED: "bad",
}


@dataclass(frozen=True, kw_only=True)
class DeliveryRow:
    """One delivery as a page shows it."""

    id: str
    label: str
    created_at: datetime
    account_domain: str | None
    request_path: str | None
    """The page of the request, or None for a test event."""
    result: str
    tone: str
    lines: tuple[str, ...]
    response: str | None

    @classmethod
    def of(cls, delivery: Delivery, endpoint: Endpoint) -> "DeliveryRow":
        result, tone = _result(delivery, endpoint)
        data: dict[str, Any] = json.loads(delivery.body).get("data") or {}
        workflow_id = data.get("workflow_id")
        return cls(
            id=delivery.id,
            label=DELIVERED_LABELS.get(delivery.type, delivery.type),
            created_at=delivery.created_at,
            account_domain=data.get("account_domain"),
            request_path=f"/requests/{workflow_id}?run={delivery.request_id}"
            if workflow_id
            else None,
            result=result,
            tone=tone,
            lines=tuple(_lines(delivery)),
            response=delivery.response,
        )


def _result(delivery: Delivery, endpoint: Endpoint) -> tuple[str, str]:
    """Return in words what became of a delivery, and the colour of the words."""
    match delivery.state:
        case DeliveryState.DELIVERED:
            return "Delivered", "good"
        case DeliveryState.FAILED:
            return "Failed", "bad"
    if endpoint.state is EndpointState.PAUSED:
        return "Waits until you resume", "plain"
    return ("Will be tried again", "waiting") if delivery.attempts else ("On its way", "open")


def _lines(delivery: Delivery) -> list[str]:
    """Return what is known of the last attempt, and of the next one."""
    lines = []
    if delivery.last_at:
        what = delivery.error or f"Status {delivery.status_code}"
        took = f", after {delivery.took_ms} ms" if delivery.took_ms is not None else ""
        lines = [f"{what.removesuffix('.')}{took}", utc(delivery.last_at)]
        if delivery.attempts > 1:
            lines.append(counted(delivery.attempts, "attempt"))
    if delivery.state is DeliveryState.PENDING and delivery.attempts and delivery.next_at:
        lines.append(f"Next attempt {utc(delivery.next_at)}")
    return lines
