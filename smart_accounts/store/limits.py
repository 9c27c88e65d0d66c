"""Reasons to reject a valid request: the domain is taken, or a limit is reached."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.settings import Settings
from smart_accounts.store import tables


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest numbers of requests."""

    open_per_customer: int
    starts_per_requester_per_hour: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            open_per_customer=settings.max_open_per_customer,
            starts_per_requester_per_hour=settings.max_starts_per_requester_per_hour,
        )


async def reason_to_reject(
    connection: AsyncConnection, request: SmartAccountRequest, at: datetime, limits: Limits
) -> str | None:
    """Return why a request made at this moment is rejected, as a sentence, otherwise None."""
    return (
        await _domain_is_taken(connection, request.account_domain)
        or await customer_limit_reached(connection, request, at, limits)
        or await _requester_limit_reached(connection, request, at, limits)
    )


async def _domain_is_taken(connection: AsyncConnection, domain: str) -> str | None:
    accounts = tables.accounts
    active_since: datetime | None = await connection.scalar(
        select(accounts.c.activated_at).where(
            accounts.c.domain == domain, accounts.c.state == "active"
        )
    )
    return "The domain already has an active Smart Account." if active_since else None


async def lock_people(connection: AsyncConnection, request: SmartAccountRequest) -> None:
    """Make other transactions wait if they would count the requests of the same people.

    SQLite has only one writer at a time, so it needs no lock.
    """
    if connection.dialect.name == "postgresql":
        people = {request.customer_email.lower(), request.requester.email.lower()}
        for email in sorted(people):  # always in the same order, to prevent deadlocks
            await connection.execute(
                select(func.pg_advisory_xact_lock(func.hashtext(f"requests of {email}")))
            )


async def customer_limit_reached(
    connection: AsyncConnection, request: SmartAccountRequest, at: datetime, limits: Limits
) -> str | None:
    requests = tables.requests
    count = await connection.scalar(
        select(func.count()).where(
            func.lower(requests.c.customer_email) == request.customer_email.lower(),
            requests.c.status == Status.PENDING,
            # A request that is still pending after its deadline was terminated.
            requests.c.deadline > at,
            # A request for the same domain is this request itself, or the start rejects this one.
            requests.c.account_domain != request.account_domain,
        )
    )
    if (count or 0) < limits.open_per_customer:
        return None
    return f"The customer already has {count} open requests, which is the limit."


async def _requester_limit_reached(
    connection: AsyncConnection, request: SmartAccountRequest, at: datetime, limits: Limits
) -> str | None:
    requests = tables.requests
    count = await connection.scalar(
        select(func.count()).where(
            func.lower(requests.c.requester_email) == request.requester.email.lower(),
            requests.c.requested_at > at - timedelta(hours=1),
            # A request that waited for the database is checked late: ignore newer ones.
            requests.c.requested_at <= at,
            requests.c.status != Status.REJECTED,
        )
    )
    if (count or 0) < limits.starts_per_requester_per_hour:
        return None
    return f"The requester made {count} requests within an hour, which is the limit."
