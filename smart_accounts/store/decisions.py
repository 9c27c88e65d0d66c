"""Decisions on requests. Each function is a part of a transaction."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.actions import Role
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Decision, RecordDecision
from smart_accounts.contract.webhooks import EventType
from smart_accounts.store import tables
from smart_accounts.store.outbox import add_event
from smart_accounts.store.records import ERASED, OPEN, AccountState, StoredRequest, stored_request
from smart_accounts.store.search import search_text_of

TERMINATED = "The request's workflow was terminated."
APPROVER = "approver and administrator"
USER = "user"


# Statements are made once, because making one takes as long as running it.
_STALE = select(tables.requests.c.id).where(
    tables.requests.c.account_domain == bindparam("domain"),
    tables.requests.c.status.in_(OPEN),
    tables.requests.c.requested_at < bindparam("before"),
)
_END = update(tables.requests).where(
    tables.requests.c.id == bindparam("request_id"), tables.requests.c.status.in_(OPEN)
)
_CHANGE_ACCOUNT = update(tables.accounts).where(tables.accounts.c.id == bindparam("request_id"))
_INSERT_USERS = insert(tables.account_users)
_FIND = select(tables.requests).where(tables.requests.c.id == bindparam("request_id"))
_LOCK = _FIND.with_for_update(key_share=True)


async def find_request(connection: AsyncConnection, request_id: str) -> StoredRequest | None:
    found = await connection.execute(_FIND, {"request_id": request_id})
    row = found.one_or_none()
    return stored_request(row) if row else None


async def lock_row(connection: AsyncConnection, request_id: str) -> Row[Any] | None:
    """Return the row of a request, which no other transaction changes before this one ends."""
    return (await connection.execute(_LOCK, {"request_id": request_id})).one_or_none()


async def lock_request(connection: AsyncConnection, request_id: str) -> StoredRequest | None:
    row = await lock_row(connection, request_id)
    return stored_request(row) if row else None


async def withdraw_terminated(
    connection: AsyncConnection, account_domain: str, before: datetime
) -> None:
    """Withdraw open requests for a domain that were made before a newer one.

    The workflow id names the domain, and only one run at a time can have it. An older request that
    is still open here therefore belongs to a run that was terminated before it could end its row.
    Newer requests are not withdrawn, because the last activity of a terminated run may run late,
    when a newer request already has the domain.
    """
    stale = await connection.scalars(_STALE, {"domain": account_domain, "before": before})
    for request_id in stale.all():
        await settle_terminated(connection, request_id, before)


async def settle_terminated(
    connection: AsyncConnection, request_id: str, at: datetime
) -> StoredRequest | None:
    """Withdraw an open request whose workflow is gone. The sweep sends the email about it.

    Returns the request, or None if it had ended before.
    """
    terminated = Decision(status=Status.WITHDRAWN, at=at, by=Role.OPERATOR, reason=TERMINATED)
    settled = await decide(connection, RecordDecision(request_id=request_id, decision=terminated))
    if settled is None:
        return None
    await free_domain(connection, request_id)
    await connection.execute(
        update(tables.requests)
        .where(tables.requests.c.id == request_id)
        .values(emails_due=settled.customer_was_asked, missing_since=None)
    )
    return settled


async def activate_account(
    connection: AsyncConnection, request: StoredRequest, at: datetime
) -> None:
    """Activate the account of a request. The customer and the added users get access."""
    activated = {"request_id": request.id, "state": AccountState.ACTIVE, "activated_at": at}
    await connection.execute(_CHANGE_ACCOUNT, activated)
    roles = dict.fromkeys(request.added_users, USER) | {request.customer_email: APPROVER}
    users = [
        {"account_id": request.id, "email": email, "role": role, "since": at}
        for email, role in roles.items()
        if email != ERASED
    ]
    if users:
        await connection.execute(_INSERT_USERS, users)


async def decide(connection: AsyncConnection, record: RecordDecision) -> StoredRequest | None:
    """End an open request. Returns the request, or None if it had ended before."""
    decision, request = record.decision, record.request
    changes = {
        "status": decision.status,
        "decided_at": decision.at,
        "decided_by": decision.by,
        "reason": decision.reason,
        "is_reported": decision.is_report,
    }
    if request:
        changes |= {"customer_email": request.customer_email, "added_users": request.added_users}
        changes["search_text"] = search_text_of(request)
    if record.link_ordinal:
        changes["link_ordinal"] = record.link_ordinal
    changed = await connection.execute(_END, changes | {"request_id": record.request_id})
    if not changed.rowcount:
        return None
    event_type = EventType.of(decision.status)
    return await add_event(connection, record.request_id, event_type, decision.at)


async def earlier_decision(connection: AsyncConnection, request_id: str) -> Decision:
    known = await find_request(connection, request_id)
    assert known
    assert known.decided_at
    return Decision(
        status=known.status, at=known.decided_at, by=known.decided_by, reason=known.reason
    )


async def free_domain(connection: AsyncConnection, request_id: str) -> None:
    closed = {"request_id": request_id, "state": AccountState.CLOSED}
    await connection.execute(_CHANGE_ACCOUNT, closed)
