"""Webhook endpoints, which partners register, and what was delivered to each."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.webhooks import DeliveryState, EndpointState, EventType
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.limits import lock_requester
from smart_accounts.store.outbox import TRY_FOR, new_delivery, ping_body
from smart_accounts.store.sessions import Partner
from smart_accounts.store.webhook_records import Delivery, Endpoint, NewEndpoint

MAX_ENDPOINTS = 10  # of one partner
NO_SUCH_ENDPOINT = "There is no such endpoint. It may have been deleted."
PAUSED_TOO_LONG = "The endpoint was paused for too long."


class Webhooks:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down.

    The caller has checked whose endpoint it is.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def register(
        self, new: NewEndpoint, owner: Partner, sealed_secret: str, now: datetime
    ) -> Endpoint:
        """Add an endpoint, or return it as it is if it was added before.

        Raises:
            Rejected: The partner has too many, or may not get events of all requests.
        """
        endpoints = tables.webhook_endpoints
        if new.for_all_requests and not owner.is_operator:
            raise Rejected("Only an operator may get the events of all requests.")
        values = {
            **_entered(new.url, new.description, new.event_types),
            "id": new.id,
            "issuer": owner.issuer,
            "subject": owner.subject,
            "owner_email": owner.email,
            "for_all_requests": new.for_all_requests,
            "state": EndpointState.ENABLED,
            "sealed_secret": sealed_secret,
            "created_at": now,
        }
        async with transaction(self._engine, writes=True) as connection:
            await lock_requester(connection, owner.identity, owner.email)
            known = await connection.execute(select(endpoints).where(endpoints.c.id == new.id))
            if row := known.one_or_none():
                return Endpoint.of(row)
            query = select(func.count()).select_from(endpoints).where(_is_of(owner.identity))
            if (await connection.scalar(query) or 0) >= MAX_ENDPOINTS:
                raise Rejected(f"You have {MAX_ENDPOINTS} endpoints, which is the limit.")
            added = insert(endpoints).values(values).returning(*endpoints.c)
            return Endpoint.of((await connection.execute(added)).one())

    async def list(self, owner: Identity, *, with_all_requests: bool = False) -> Sequence[Endpoint]:
        """Return the partner's endpoints, oldest first.

        ``with_all_requests`` adds the endpoints of all operators that get events of all requests.
        """
        endpoints = tables.webhook_endpoints
        is_listed: ColumnElement[bool] = _is_of(owner)
        if with_all_requests:
            is_listed = or_(is_listed, endpoints.c.for_all_requests)
        query = select(endpoints).where(is_listed).order_by(endpoints.c.created_at, endpoints.c.id)
        async with transaction(self._engine, writes=False) as connection:
            return [Endpoint.of(row) for row in await connection.execute(query)]

    async def find(self, endpoint_id: str) -> Endpoint | None:
        endpoints = tables.webhook_endpoints
        query = select(endpoints).where(endpoints.c.id == endpoint_id)
        async with transaction(self._engine, writes=False) as connection:
            row = (await connection.execute(query)).one_or_none()
            return Endpoint.of(row) if row else None

    async def update(
        self, endpoint_id: str, *, url: str, description: str, event_types: Sequence[EventType]
    ) -> None:
        async with transaction(self._engine, writes=True) as connection:
            await _update(connection, endpoint_id, **_entered(url, description, event_types))

    async def set_state(self, endpoint_id: str, state: EndpointState, now: datetime) -> None:
        """Pause an endpoint, or enable it again.

        A paused endpoint then gets what was not sent, unless it is older than three days.
        """
        deliveries = tables.webhook_deliveries
        waiting = (
            deliveries.c.endpoint_id == endpoint_id,
            deliveries.c.state == DeliveryState.PENDING,
        )
        async with transaction(self._engine, writes=True) as connection:
            known = await lock_endpoint(connection, endpoint_id, blocks_events=True)
            if known is None or known.state is state:
                return
            await _update(
                connection,
                endpoint_id,
                state=state,
                failing_since=None,
                disabled_at=None,
                owner_told_at=None,
            )
            if state is EndpointState.ENABLED:
                too_old = {"state": DeliveryState.FAILED, "error": PAUSED_TOO_LONG}
                await change(connection, *waiting, deliveries.c.try_until < now, **too_old)
                await hand_over_newest(connection, endpoint_id)
            else:  # the relay need not look at what waits for a paused endpoint
                await change(connection, *waiting, handed_over=True)

    async def rotate_secret(
        self, endpoint_id: str, sealed_secret: str, overlap_until: datetime
    ) -> None:
        """Replace the secret. The previous one is used too, until ``overlap_until``.

        If the previous secret is still used, it stays, because the receiver may know only that one.
        """
        endpoints = tables.webhook_endpoints.c
        is_used = endpoints.previous_secret_until > datetime.now(UTC)
        async with transaction(self._engine, writes=True) as connection:
            await _update(
                connection,
                endpoint_id,
                previous_sealed_secret=case(
                    (is_used, endpoints.previous_sealed_secret), else_=endpoints.sealed_secret
                ),
                previous_secret_until=case(
                    (is_used, endpoints.previous_secret_until), else_=overlap_until
                ),
                sealed_secret=sealed_secret,
            )

    async def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint and its deliveries."""
        endpoints = tables.webhook_endpoints
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(delete(endpoints).where(endpoints.c.id == endpoint_id))

    async def ping(self, endpoint_id: str, now: datetime) -> str:
        """Add a test event, and return the id of its delivery.

        Raises:
            Rejected: The endpoint is paused or disabled.
        """
        async with transaction(self._engine, writes=True) as connection:
            await _require_enabled(connection, endpoint_id)
            event_id = str(uuid4())
            row = new_delivery(
                endpoint_id,
                EventType.PING,
                event_id,
                ping_body(connection, event_id, endpoint_id, now),
                now,
            )
            await connection.execute(insert(tables.webhook_deliveries).values(row))
            return str(row["id"])

    async def deliveries(self, endpoint_id: str, limit: int = 50) -> Sequence[Delivery]:
        """Return the last deliveries, newest first."""
        deliveries = tables.webhook_deliveries
        query = (
            select(deliveries)
            .where(deliveries.c.endpoint_id == endpoint_id)
            .order_by(deliveries.c.created_at.desc(), deliveries.c.sequence.desc())
            .limit(limit)
        )
        async with transaction(self._engine, writes=False) as connection:
            return [Delivery.of(row) for row in await connection.execute(query)]

    async def send_again(self, endpoint_id: str, delivery_id: str, now: datetime) -> None:
        """Send an event again, for three days from now.

        Raises:
            NotFound: The endpoint has no such delivery.
            Rejected: The endpoint is paused or disabled.
        """
        deliveries = tables.webhook_deliveries.c
        async with transaction(self._engine, writes=True) as connection:
            await _require_enabled(connection, endpoint_id)
            found = await change(
                connection,
                deliveries.id == delivery_id,
                deliveries.endpoint_id == endpoint_id,
                state=DeliveryState.PENDING,
                next_at=now,
                try_until=now + TRY_FOR,
                handed_over=False,
                attempts=0,
            )
            if not found:
                raise NotFound("There is no such delivery.")


def _is_of(owner: Identity) -> ColumnElement[bool]:
    endpoints = tables.webhook_endpoints.c
    return and_(endpoints.issuer == owner.issuer, endpoints.subject == owner.subject)


def _entered(url: str, description: str, event_types: Sequence[EventType]) -> dict[str, Any]:
    return {"url": url, "description": description, "event_types": list(event_types)}


async def lock_endpoint(
    connection: AsyncConnection, endpoint_id: str, *, blocks_events: bool = False
) -> Endpoint | None:
    """Return an endpoint that no other transaction changes meanwhile.

    Transactions that change an endpoint and its deliveries begin with this, so that they cannot
    wait for each other. New events wait only for one that ``blocks_events``, because it must see
    all events that were written in the endpoint's former state.
    """
    endpoints = tables.webhook_endpoints
    query = select(endpoints).where(endpoints.c.id == endpoint_id)
    locked = query.with_for_update(key_share=not blocks_events)
    row = (await connection.execute(locked)).one_or_none()
    return Endpoint.of(row) if row else None


async def _require_enabled(connection: AsyncConnection, endpoint_id: str) -> None:
    known = await lock_endpoint(connection, endpoint_id)
    if known is None:
        raise NotFound(NO_SUCH_ENDPOINT)
    if known.state is not EndpointState.ENABLED:
        raise Rejected(f"The endpoint is {known.state}. Enable it first.")


async def _update(connection: AsyncConnection, endpoint_id: str, **values: Any) -> None:
    endpoints = tables.webhook_endpoints
    await connection.execute(
        update(endpoints).where(endpoints.c.id == endpoint_id).values(**values)
    )


async def change(
    connection: AsyncConnection, *conditions: ColumnElement[bool], **values: Any
) -> int:
    """Change deliveries. Returns how many.

    They are locked in the order of their ids, because two transactions that lock the same rows in
    different orders can wait for each other.
    """
    deliveries = tables.webhook_deliveries
    ids = select(deliveries.c.id).where(*conditions).order_by(deliveries.c.id).with_for_update()
    changed = await connection.execute(
        update(deliveries).where(deliveries.c.id.in_(ids)).values(**values)
    )
    return changed.rowcount


async def hand_over_newest(connection: AsyncConnection, endpoint_id: str) -> None:
    """Let the relay start the endpoint's workflow, for which one delivery is enough.

    If it took all that wait, the relay would be busy with them while events of others wait.
    """
    deliveries = tables.webhook_deliveries.c
    newest = (
        select(deliveries.id)
        .where(deliveries.endpoint_id == endpoint_id)
        .order_by(deliveries.created_at.desc())
        .limit(1)
    )
    await change(connection, deliveries.id == newest.scalar_subquery(), handed_over=False)
