"""Which requests wait for a review, and which of them the operators know."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.records import StoredRequest, stored_request

EMAIL_AT_MOST_EVERY = timedelta(minutes=15)
MAX_LISTED = 100  # requests in one email


class Reviews:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def is_announced(self, request_id: str) -> bool:
        """Return True if the operators know of the request, or if its review is over."""
        requests = tables.requests.c
        query = select(requests.id).where(
            requests.id == request_id,
            requests.status == Status.IN_REVIEW,
            requests.is_announced.is_(False),
        )
        async with transaction(self._engine, writes=False) as connection:
            return await connection.scalar(query) is None

    async def claim_email(self, now: datetime) -> datetime | None:
        """Claim the next email to the operators.

        Returns None if the email may be sent now, otherwise the time from which it may be sent.
        """
        announcements = tables.announcements
        is_review = announcements.c.kind == EmailKind.REVIEW_NEEDED
        async with transaction(self._engine, writes=True) as connection:
            last: datetime | None = await connection.scalar(
                select(announcements.c.at).where(is_review).with_for_update()
            )
            if last is None:
                values = {"kind": EmailKind.REVIEW_NEEDED, "at": now}
                await connection.execute(insert(announcements).values(values))
            elif now < last + EMAIL_AT_MOST_EVERY:
                return last + EMAIL_AT_MOST_EVERY
            else:
                await connection.execute(update(announcements).where(is_review).values(at=now))
            return None

    async def count(self) -> int:
        """Return how many requests wait for a review."""
        query = select(func.count()).where(tables.requests.c.status == Status.IN_REVIEW)
        async with transaction(self._engine, writes=False) as connection:
            return await connection.scalar(query) or 0

    async def waiting(self, request_id: str) -> tuple[StoredRequest, ...]:
        """Return requests in review: this one, then those that the operators do not know."""
        requests = tables.requests.c
        query = (
            select(tables.requests)
            .where(requests.status == Status.IN_REVIEW)
            .order_by(requests.id != request_id, requests.is_announced, requests.requested_at)
            .limit(MAX_LISTED)
        )
        async with transaction(self._engine, writes=False) as connection:
            return tuple(stored_request(row) for row in await connection.execute(query))

    async def set_announced(self, requests: Sequence[StoredRequest]) -> None:
        """Note that the operators were told of these requests."""
        ids = [each.id for each in requests]
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(tables.requests)
                .where(tables.requests.c.id.in_(ids))
                .values(is_announced=True)
            )
