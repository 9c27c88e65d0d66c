"""What the account store itself has against a valid request."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.store import tables
from smart_accounts.store.records import Limits


async def refusal(
    connection: AsyncConnection, request: SmartAccountRequest, at: datetime, limits: Limits
) -> str | None:
    """Why a request made at that moment can't be opened, in a sentence, or ``None``."""
    return (
        await _domain_taken(connection, request.account_domain)
        or await customer_has_enough(connection, request, at, limits)
        or await _requester_is_too_fast(connection, request, at, limits)
    )


async def _domain_taken(connection: AsyncConnection, domain: str) -> str | None:
    accounts = tables.accounts
    active_since: datetime | None = await connection.scalar(
        select(accounts.c.activated_at).where(
            accounts.c.domain == domain, accounts.c.state == "active"
        )
    )
    return "The domain already has an active Smart Account." if active_since else None


async def one_at_a_time(connection: AsyncConnection, request: SmartAccountRequest) -> None:
    """Let no other transaction count these people's requests until this one has ended.

    SQLite has one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        people = {request.customer_email.lower(), request.requester.email.lower()}
        for email in sorted(people):  # in one order, or two would wait for each other
            await connection.execute(
                select(func.pg_advisory_xact_lock(func.hashtext(f"requests of {email}")))
            )


async def customer_has_enough(
    connection: AsyncConnection, request: SmartAccountRequest, at: datetime, limits: Limits
) -> str | None:
    requests = tables.requests
    count = await connection.scalar(
        select(func.count()).where(
            func.lower(requests.c.customer_email) == request.customer_email.lower(),
            requests.c.status == Status.PENDING,
            requests.c.deadline > at,  # past it a pending row's run was terminated
            # One of the same domain is settled by the start, or is this very request.
            requests.c.account_domain != request.account_domain,
        )
    )
    if (count or 0) < limits.open_per_customer:
        return None
    return f"The customer has {count} open requests already, which is the most there may be."


async def _requester_is_too_fast(
    connection: AsyncConnection, request: SmartAccountRequest, at: datetime, limits: Limits
) -> str | None:
    requests = tables.requests
    count = await connection.scalar(
        select(func.count()).where(
            func.lower(requests.c.requester_email) == request.requester.email.lower(),
            requests.c.requested_at > at - timedelta(hours=1),
            requests.c.requested_at <= at,  # one that waited for the database is checked late
            requests.c.status != Status.REJECTED,
        )
    )
    if (count or 0) < limits.starts_per_requester_per_hour:
        return None
    return f"The requester made {count} requests within an hour, which is the most there may be."
