"""Webhook deliveries on their way: what is due, what became of each try, and when to try again."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.webhooks import DeliveryState, EndpointState
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.webhook_records import Attempt, Delivery, Endpoint
from smart_accounts.store.webhooks import change, hand_over_newest, lock_endpoint

FIRST_RETRY = timedelta(seconds=10)
RETRY_FACTOR = 3
LONGEST_RETRY = timedelta(hours=1)
DISABLE_AFTER = timedelta(days=5)
FORGET_FAILURE_AFTER = timedelta(hours=24)
"""Failures count as one series if there is never more time between two of them."""
TOLD_WITHIN = timedelta(days=1)  # longer than most outages of a mail server
KEPT = timedelta(days=30)
HANDED_OVER_AT_ONCE = 500
DISABLED = "The endpoint was disabled."


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What follows from a try. ``next_at`` is when to try again, or None if it is not tried again.

    ``is_disabled`` is True if this failure disabled the endpoint.
    """

    next_at: datetime | None = None
    is_disabled: bool = False


class Deliveries:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def not_handed_over(self) -> Mapping[str, Sequence[str]]:
        """Return the ids of the oldest deliveries that Temporal does not know of, by endpoint."""
        deliveries = tables.webhook_deliveries.c
        query = (
            select(deliveries.endpoint_id, deliveries.id)
            .where(~deliveries.handed_over)
            .order_by(deliveries.created_at)
            .limit(HANDED_OVER_AT_ONCE)
        )
        waiting: dict[str, list[str]] = defaultdict(list)
        async with transaction(self._engine, writes=False) as connection:
            for endpoint_id, delivery_id in await connection.execute(query):
                waiting[endpoint_id].append(delivery_id)
        return waiting

    async def mark_handed_over(self, delivery_ids: Collection[str]) -> None:
        """Note that Temporal delivers these. Pass the ids of one endpoint."""
        are_these = tables.webhook_deliveries.c.id.in_(delivery_ids)
        async with transaction(self._engine, writes=True) as connection:
            await change(connection, are_these, handed_over=True)

    async def due(self, endpoint_id: str, now: datetime, limit: int) -> Sequence[Delivery]:
        """Return what to try now: first what was tried least, then what is oldest.

        While nothing fails, everything that waits is due. So after a success, the other deliveries
        do not wait for their next try.
        """
        deliveries, endpoints = tables.webhook_deliveries, tables.webhook_endpoints.c
        query = (
            select(deliveries)
            .join(tables.webhook_endpoints, endpoints.id == deliveries.c.endpoint_id)
            .where(
                deliveries.c.endpoint_id == endpoint_id,
                _is_waiting(),
                or_(deliveries.c.next_at <= now, endpoints.failing_since.is_(None)),
            )
            .order_by(deliveries.c.attempts, deliveries.c.created_at, deliveries.c.sequence)
            .limit(limit)
        )
        async with transaction(self._engine, writes=False) as connection:
            return [Delivery.of(row) for row in await connection.execute(query)]

    async def next_at(self, endpoint_id: str) -> datetime | None:
        """Return when the next delivery is due, which may have passed, or None if none waits."""
        deliveries, endpoints = tables.webhook_deliveries.c, tables.webhook_endpoints.c
        next_at = case(
            (endpoints.failing_since.is_(None), deliveries.created_at), else_=deliveries.next_at
        )
        query = (
            select(func.min(next_at, type_=deliveries.next_at.type))
            .join(tables.webhook_endpoints, endpoints.id == deliveries.endpoint_id)
            .where(deliveries.endpoint_id == endpoint_id, _is_waiting())
        )
        async with transaction(self._engine, writes=False) as connection:
            found: datetime | None = await connection.scalar(query)
            return found

    async def record(self, delivery_id: str, attempt: Attempt, now: datetime) -> Recorded:
        """Record what became of a try. Two tries may overlap, so the first one may end last."""
        deliveries = tables.webhook_deliveries
        async with transaction(self._engine, writes=True) as connection:
            has_id = deliveries.c.id == delivery_id
            endpoint_id = await connection.scalar(select(deliveries.c.endpoint_id).where(has_id))
            endpoint = endpoint_id and await lock_endpoint(connection, endpoint_id)
            row = (await connection.execute(select(deliveries).where(has_id))).one_or_none()
            if not endpoint or row is None:
                return Recorded()  # it was deleted meanwhile
            delivery = Delivery.of(row)
            if delivery.state is DeliveryState.DELIVERED and not attempt.is_delivered:
                return Recorded()
            is_tried_again = (
                not attempt.is_delivered
                and delivery.state is DeliveryState.PENDING
                and endpoint.state is not EndpointState.DISABLED
            )
            next_at = _next_at(delivery, now) if is_tried_again else None
            await change(connection, has_id, **_values(delivery, attempt, next_at, now))
            is_disabled = await _record_for_endpoint(connection, endpoint, attempt, now)
            return Recorded(next_at=None if is_disabled else next_at, is_disabled=is_disabled)

    async def give_up_late(self, endpoint_id: str, now: datetime) -> None:
        """Mark as failed what was tried before, and is older than three days.

        Call this for an endpoint that has just failed and has more to try than its turn allows.
        Otherwise old events would wait for a turn in which no event has had fewer tries.
        """
        deliveries = tables.webhook_deliveries.c
        async with transaction(self._engine, writes=True) as connection:
            await change(
                connection,
                deliveries.endpoint_id == endpoint_id,
                deliveries.state == DeliveryState.PENDING,
                deliveries.attempts > 0,
                deliveries.try_until <= now,
                state=DeliveryState.FAILED,
            )

    async def overdue(self, before: datetime) -> Sequence[str]:
        """Return the ids of the endpoints with deliveries that were due before and were not sent.

        A failing endpoint gets few tries, so its deliveries are late. It is left out unless the
        last try was more than the longest interval before. A disabled endpoint is among them if
        its owner should have been told long ago.
        """
        deliveries, endpoints = tables.webhook_deliveries.c, tables.webhook_endpoints.c
        last_failed_at = endpoints.last_failed_at
        query = (
            select(deliveries.endpoint_id)
            .distinct()
            .join(tables.webhook_endpoints, endpoints.id == deliveries.endpoint_id)
            .where(
                or_(
                    and_(
                        _is_waiting(),
                        deliveries.next_at < before,
                        or_(last_failed_at.is_(None), last_failed_at < before - LONGEST_RETRY),
                    ),
                    and_(
                        endpoints.state == EndpointState.DISABLED,
                        endpoints.owner_told_at.is_(None),
                        endpoints.disabled_at < before - TOLD_WITHIN,
                    ),
                )
            )
        )
        async with transaction(self._engine, writes=False) as connection:
            return (await connection.scalars(query)).all()

    async def hand_over_again(self, endpoint_id: str) -> None:
        """Let the relay start the endpoint's workflow again."""
        async with transaction(self._engine, writes=True) as connection:
            await hand_over_newest(connection, endpoint_id)

    async def owner_to_tell(self, endpoint_id: str) -> Endpoint | None:
        """Return the endpoint if it is disabled and its owner was not told."""
        endpoints = tables.webhook_endpoints
        query = select(endpoints).where(
            endpoints.c.id == endpoint_id,
            endpoints.c.state == EndpointState.DISABLED,
            endpoints.c.owner_told_at.is_(None),
        )
        async with transaction(self._engine, writes=False) as connection:
            row = (await connection.execute(query)).one_or_none()
            return Endpoint.of(row) if row else None

    async def set_owner_told(self, endpoint_id: str, disabled_at: datetime, now: datetime) -> None:
        """Note that the owner was told of this disabling. The endpoint may be enabled again."""
        endpoints = tables.webhook_endpoints
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(endpoints)
                .where(endpoints.c.id == endpoint_id, endpoints.c.disabled_at == disabled_at)
                .values(owner_told_at=now)
            )

    async def remove_old(self, now: datetime) -> None:
        """Remove deliveries that are older than 30 days and are not tried any more."""
        deliveries = tables.webhook_deliveries
        is_over = or_(
            deliveries.c.state != DeliveryState.PENDING,
            deliveries.c.try_until < now,  # the endpoint is paused
        )
        # For each endpoint, because the index begins with the endpoint.
        has_endpoint = deliveries.c.endpoint_id.in_(select(tables.webhook_endpoints.c.id))
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                delete(deliveries).where(
                    has_endpoint, deliveries.c.created_at < now - KEPT, is_over
                )
            )


def _is_waiting() -> ColumnElement[bool]:
    return and_(
        tables.webhook_deliveries.c.state == DeliveryState.PENDING,
        tables.webhook_endpoints.c.state == EndpointState.ENABLED,
    )


def _next_at(delivery: Delivery, now: datetime) -> datetime | None:
    """Return when to try again after a failure. The last try is at the end of the three days."""
    if now >= delivery.try_until:
        return None
    # The exponent is limited, because a timedelta is.
    pause = FIRST_RETRY * int(RETRY_FACTOR ** min(delivery.attempts, 10))
    return min(now + min(pause, LONGEST_RETRY), delivery.try_until)


def _values(
    delivery: Delivery, attempt: Attempt, next_at: datetime | None, now: datetime
) -> dict[str, Any]:
    """Return the new values of a delivery after a try."""
    state = DeliveryState.PENDING if next_at else DeliveryState.FAILED
    return {
        "state": DeliveryState.DELIVERED if attempt.is_delivered else state,
        "next_at": next_at or delivery.next_at,
        "attempts": delivery.attempts + 1,
        "last_at": now,
        "status_code": attempt.status_code,
        "error": _shortened(attempt.error, 200),
        "response": _shortened(attempt.response, 300),
        "took_ms": attempt.took_ms,
    }


def _shortened(text: str | None, length: int) -> str | None:
    """Return text that every database can store. PostgreSQL stores no NUL."""
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}")[:length]


async def _record_for_endpoint(
    connection: AsyncConnection, endpoint: Endpoint, attempt: Attempt, now: datetime
) -> bool:
    """Note a success or a failure. Returns True if this disables the endpoint."""
    values: dict[str, Any] = {"failing_since": None}
    if not attempt.is_delivered:
        last, since = endpoint.last_failed_at, endpoint.failing_since
        is_series = since and last and now - last <= FORGET_FAILURE_AFTER
        values = {"failing_since": since if is_series else now, "last_failed_at": now}
    elif endpoint.failing_since is None:
        return False
    is_disabled = (
        not attempt.is_delivered
        and endpoint.state is EndpointState.ENABLED
        and now - values["failing_since"] >= DISABLE_AFTER
    )
    if is_disabled:
        values |= {"state": EndpointState.DISABLED, "disabled_at": now, "owner_told_at": None}
    endpoints, deliveries = tables.webhook_endpoints, tables.webhook_deliveries.c
    await connection.execute(update(endpoints).where(endpoints.c.id == endpoint.id).values(values))
    if is_disabled:
        await change(
            connection,
            deliveries.endpoint_id == endpoint.id,
            deliveries.state == DeliveryState.PENDING,
            state=DeliveryState.FAILED,
            error=func.coalesce(deliveries.error, DISABLED),
        )
    return is_disabled
