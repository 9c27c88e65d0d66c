"""Add webhook events in the transaction of the change that they report."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from sqlalchemy import ColumnElement, Row, and_, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.webhooks import DeliveryState, EndpointState, EventType
from smart_accounts.store import tables
from smart_accounts.store.email_statuses import find_statuses
from smart_accounts.store.records import StoredRequest, stored_request
from smart_accounts.store.request_view import ChangedRequest

TRY_FOR = timedelta(days=3)


def _gets_events_of(issuer: Any, subject: Any) -> ColumnElement[bool]:
    """Return the condition for endpoints that get events of this owner's requests."""
    endpoints = tables.webhook_endpoints.c
    is_own = and_(endpoints.issuer == issuer, endpoints.subject == subject)
    return and_(or_(endpoints.for_all_requests, is_own), endpoints.state != EndpointState.DISABLED)


_requests = tables.requests
_subscribers = select(tables.webhook_endpoints.c.id).where(
    _gets_events_of(_requests.c.requester_issuer, _requests.c.requester_subject)
)
# Built once, because building it takes longer than executing it.
_count_event = (
    update(_requests)
    .where(_requests.c.id == bindparam("counted_request"))
    .values(sequence=_requests.c.sequence + 1)
    .returning(*_requests.c, _subscribers.correlate(_requests).exists().label("has_subscribers"))
)


async def add_event(
    connection: AsyncConnection, request_id: str, event_type: EventType, at: datetime
) -> StoredRequest:
    """Count an event, and add a delivery for each endpoint that is subscribed to it.

    Call this after the change, because the deliveries show the request as it is then. Without a
    subscriber, it costs one statement. Returns the request.
    """
    counted = await connection.execute(_count_event, {"counted_request": request_id})
    row = counted.one()
    if row.has_subscribers:
        await _add_deliveries(connection, row, event_type, at)
    return stored_request(row)


async def _add_deliveries(
    connection: AsyncConnection, row: Row[Any], event_type: EventType, at: datetime
) -> None:
    endpoints = tables.webhook_endpoints.c
    found = await connection.execute(
        select(endpoints.id, endpoints.event_types, endpoints.state)
        .where(_gets_events_of(row.requester_issuer, row.requester_subject))
        # Without the lock, an endpoint that is deleted meanwhile would make the insert fail.
        .with_for_update(read=True, key_share=True)
    )
    subscribed = [each for each in found if event_type in each.event_types]
    if not subscribed:
        return
    request = stored_request(row)
    view = ChangedRequest.of(
        request, await find_statuses(connection, request), sequence=row.sequence
    )
    event_id = str(uuid4())
    body = _body(connection, event_id, event_type, at, view.model_dump(mode="json"), request.id)
    # The change may be recorded late, and then the three days begin late too.
    now = max(at, datetime.now(UTC))
    about = {"request_id": request.id, "sequence": row.sequence}
    await connection.execute(
        insert(tables.webhook_deliveries),
        [
            new_delivery(each.id, event_type, event_id, body, now)
            | about
            # The relay need not look at what waits for a paused endpoint.
            | {"handed_over": each.state != EndpointState.ENABLED}
            for each in subscribed
        ],
    )


def ping_body(connection: AsyncConnection, event_id: str, endpoint_id: str, at: datetime) -> str:
    """Return the body of a test event."""
    return _body(connection, event_id, EventType.PING, at, {"endpoint_id": endpoint_id})


def _body(
    connection: AsyncConnection,
    event_id: str,
    event_type: EventType,
    at: datetime,
    data: dict[str, Any],
    subject: str | None = None,
) -> str:
    """Return an event in the structured JSON format of CloudEvents, in ASCII."""
    attributes = {
        "id": event_id,
        "source": connection.engine.get_execution_options()["event_source"],
        "type": event_type.value,
        "time": at.astimezone(UTC),
        "datacontenttype": "application/json",
        **({"subject": subject} if subject else {}),
    }
    return JSONFormat().write(CloudEvent(attributes, data)).decode()


def new_delivery(
    endpoint_id: str, event_type: EventType, event_id: str, body: str, now: datetime
) -> dict[str, Any]:
    """Return the row of a delivery that is due now."""
    return {
        "id": str(uuid4()),
        "endpoint_id": endpoint_id,
        "event_id": event_id,
        "type": event_type,
        "body": body,
        "state": DeliveryState.PENDING,
        "created_at": now,
        "try_until": now + TRY_FOR,
        "next_at": now,
        "handed_over": False,
        "attempts": 0,
    }
