"""The life of a request in the store.

Every write names the request's id and changes nothing when it is repeated, because an activity may
run again after its transaction was committed.
"""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.steps import (
    CloseAccount,
    ClosedAccount,
    Decision,
    IssueLink,
    OpenRequest,
    RecordDecision,
)
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.limits import (
    Limits,
    customer_limit_reached,
    lock_people,
    reason_to_reject,
)
from smart_accounts.store.records import StoredRequest, stored_request

APPROVER = "approver and administrator"
USER = "user"


class Requests:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, request_id: str) -> StoredRequest | None:
        async with transaction(self._engine, writes=False) as connection:
            return await _find(connection, request_id)

    async def reason_to_reject(
        self, request: SmartAccountRequest, at: datetime, limits: Limits
    ) -> str | None:
        """Return why a request made at this moment would be rejected, otherwise None."""
        async with transaction(self._engine, writes=False) as connection:
            return await reason_to_reject(connection, request, at, limits)

    async def open(
        self, new: OpenRequest, needs_attention: tuple[str, ...], limits: Limits
    ) -> str | None:
        """Store the request with its provisional account.

        Returns the reason if the request is rejected, otherwise None. A rejected request is
        stored too, without an account.
        """
        async with transaction(self._engine, writes=True) as connection:
            if known := await _find(connection, new.request_id):
                return known.reason if known.status == Status.REJECTED else None
            await lock_people(connection, new.request)
            await _withdraw_terminated(connection, new)
            rejected = await reason_to_reject(connection, new.request, new.requested_at, limits)
            record = StoredRequest.new(
                new.request_id,
                new.request,
                new.requested_at,
                status=Status.REJECTED if rejected else Status.PENDING,
                needs_attention=needs_attention,
                reason=rejected,
            )
            await connection.execute(
                insert(tables.requests).values(
                    asdict(record) | {"idempotency_key": new.idempotency_key}
                )
            )
            if not rejected:
                await connection.execute(
                    insert(tables.accounts).values(
                        id=record.id,
                        domain=record.account_domain,
                        name=record.account_name,
                        state="provisional",
                    )
                )
            return rejected

    async def issue_link(
        self, link: IssueLink, needs_attention: tuple[str, ...], limits: Limits
    ) -> str | None:
        """Put a link and its approver in force.

        Returns the reason if the approver is rejected, otherwise None. A request that has ended
        is not changed, because its links can no longer be used.
        """
        requests, request = tables.requests, link.request
        async with transaction(self._engine, writes=True) as connection:
            known = await _find(connection, link.request_id)
            if known is None or known.status.is_final or known.link_ordinal > link.ordinal:
                return None
            if known.customer_email != request.customer_email:
                await lock_people(connection, request)
                if rejected := await customer_limit_reached(connection, request, link.at, limits):
                    return rejected
            await connection.execute(
                update(requests)
                .where(requests.c.id == link.request_id)
                .values(
                    customer_email=request.customer_email,
                    added_users=request.added_users,
                    needs_attention=needs_attention,
                    link_ordinal=link.ordinal,
                )
            )
            return None

    async def note_signalled(self, request_id: str, link: int, answer: str) -> None:
        """Note that Temporal has an answer through a link. The first answer of each link stays."""
        requests = tables.requests
        newer = func.coalesce(requests.c.signalled_link, 1) < link
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(requests)
                .where(requests.c.id == request_id, or_(requests.c.signalled.is_(None), newer))
                .values(signalled=answer, signalled_link=link)
            )

    async def activate(self, record: RecordDecision) -> Decision:
        """Activate the account and give the customer and the added users access.

        Returns the decision that counts, which is an earlier one if the store has one.
        """
        async with transaction(self._engine, writes=True) as connection:
            request = await _decide(connection, record)
            if request is None:
                return await _earlier_decision(connection, record.request_id)
            decision = record.decision
            await connection.execute(
                update(tables.accounts)
                .where(tables.accounts.c.id == request.id)
                .values(state="active", activated_at=decision.at)
            )
            roles = dict.fromkeys(request.added_users, USER) | {request.customer_email: APPROVER}
            await connection.execute(
                insert(tables.account_users),
                [
                    {"account_id": request.id, "email": email, "role": role, "since": decision.at}
                    for email, role in roles.items()
                ],
            )
            return decision

    async def close(self, record: RecordDecision) -> Decision:
        """End the request without an account, which frees its domain.

        Returns the decision that counts, which is an earlier one if the store has one.
        """
        async with transaction(self._engine, writes=True) as connection:
            if await _decide(connection, record) is None:
                return await _earlier_decision(connection, record.request_id)
            await _free_domain(connection, record.request_id)
            return record.decision

    async def close_account(self, close: CloseAccount) -> ClosedAccount:
        """Close an active account: access ends, and its domain is free.

        Returns the closing that counts, which is an earlier one if the store has one.
        """
        requests, closing = tables.requests, close.closing
        async with transaction(self._engine, writes=True) as connection:
            changed = await connection.execute(
                update(requests)
                .where(
                    requests.c.id == close.request_id,
                    requests.c.account_domain == closing.account_domain,
                    requests.c.status == Status.ACTIVE,
                    requests.c.closed_at.is_(None),
                )
                .values(
                    closed_at=close.at,
                    closed_by=closing.by.subject,
                    close_reason=closing.reason,
                )
            )
            if changed.rowcount:
                await _free_domain(connection, close.request_id)
                users = tables.account_users
                await connection.execute(
                    delete(users).where(users.c.account_id == close.request_id)
                )
            known = await _find(connection, close.request_id)
            if known is None or known.account_domain != closing.account_domain:
                return ClosedAccount()
            return ClosedAccount(
                at=known.closed_at, reason=known.close_reason, added_users=len(known.added_users)
            )


async def _find(connection: AsyncConnection, request_id: str) -> StoredRequest | None:
    found = await connection.execute(
        select(tables.requests).where(tables.requests.c.id == request_id)
    )
    row = found.one_or_none()
    return stored_request(row) if row else None


async def _withdraw_terminated(connection: AsyncConnection, new: OpenRequest) -> None:
    """Withdraw older open requests for the same domain.

    The workflow id names the domain, and only one run at a time can have it. An older request that
    is still open here therefore belongs to a run that was terminated before it could end its row.
    Newer requests are not withdrawn, because the last activity of a terminated run may run late,
    when a newer request already has the domain.
    """
    requests = tables.requests.c
    stale = await connection.scalars(
        select(requests.id).where(
            requests.account_domain == new.request.account_domain,
            requests.status == Status.PENDING,
            requests.requested_at < new.requested_at,
        )
    )
    terminated = Decision(
        status=Status.WITHDRAWN,
        at=new.requested_at,
        by="operator",
        reason="The request's workflow was terminated.",
    )
    for request_id in stale.all():
        await _decide(connection, RecordDecision(request_id=request_id, decision=terminated))
        await _free_domain(connection, request_id)


async def _decide(connection: AsyncConnection, record: RecordDecision) -> StoredRequest | None:
    """End an open request. Returns the request, or None if it had ended before."""
    decision, request = record.decision, record.request
    changes = {
        "status": decision.status,
        "decided_at": decision.at,
        "decided_by": decision.by,
        "reason": decision.reason,
    }
    if request:
        changes |= {"customer_email": request.customer_email, "added_users": request.added_users}
    requests = tables.requests
    changed = await connection.execute(
        update(requests)
        .where(requests.c.id == record.request_id, requests.c.status == Status.PENDING)
        .values(changes)
    )
    return await _find(connection, record.request_id) if changed.rowcount else None


async def _earlier_decision(connection: AsyncConnection, request_id: str) -> Decision:
    known = await _find(connection, request_id)
    assert known
    assert known.decided_at
    return Decision(
        status=known.status, at=known.decided_at, by=known.decided_by, reason=known.reason
    )


async def _free_domain(connection: AsyncConnection, request_id: str) -> None:
    await connection.execute(
        update(tables.accounts).where(tables.accounts.c.id == request_id).values(state="closed")
    )
