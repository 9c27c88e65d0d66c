"""The account store: what is true about accounts and requests, whoever asks.

Every write is keyed by the request's id and does nothing the second time, since an activity
may run again after it has committed.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Self

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.messages import (
    Email,
    EmailKind,
    EmailState,
    EmailStatus,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.names import workflow_id
from smart_accounts.contract.steps import Decision, IssueLink, OpenRequest, RecordDecision
from smart_accounts.errors import Unavailable
from smart_accounts.store import tables
from smart_accounts.store.database import create_engine, older_revisions, transaction
from smart_accounts.store.emails import EmailLedger
from smart_accounts.store.idempotency import IdempotencyKeys
from smart_accounts.store.limits import customer_has_enough, one_at_a_time, refusal
from smart_accounts.store.listing import RequestListing
from smart_accounts.store.partners import Partners
from smart_accounts.store.records import (
    ActivationLink,
    Limits,
    StoredRequest,
    stored_request,
)

APPROVER = "approver and administrator"
USER = "user"


class AccountStore:
    """Each method is one transaction and raises ``Unavailable`` if the database does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.emails = EmailLedger(engine)
        self.requests = RequestListing(engine)
        self.keys = IdempotencyKeys(engine)
        self.partners = Partners(engine)

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator[Self]:
        """A store on a database that has been migrated."""
        engine = create_engine(url)
        try:
            yield cls(engine)
        finally:
            await engine.dispose()

    async def ping(self) -> None:
        """Check that the database answers and is as this code needs it, or newer."""
        try:
            async with transaction(self._engine, writes=False) as connection:
                found = await connection.scalar(text("SELECT version_num FROM alembic_version"))
        except DBAPIError:  # it answers: there is no such table
            found = None
        if found is None or found in older_revisions():
            raise Unavailable("The database is not migrated yet; the worker does it.")

    # ---- the life of a request ---------------------------------------------------------

    async def open_request(
        self, new: OpenRequest, needs_attention: tuple[str, ...], limits: Limits
    ) -> str | None:
        """Store a request with its provisional account; answers why not, or ``None``."""
        async with transaction(self._engine, writes=True) as connection:
            if known := await _find(connection, new.request_id):
                return known.reason if known.status == Status.REJECTED else None
            await one_at_a_time(connection, new.request)
            await _settle_what_was_terminated(connection, new)
            refused = await refusal(connection, new.request, new.requested_at, limits)
            await _insert_request(connection, new, needs_attention, refused)
            if not refused:
                await connection.execute(
                    insert(tables.accounts).values(
                        id=new.request_id,
                        domain=new.request.account_domain,
                        name=new.request.account_name,
                        state="provisional",
                    )
                )
            return refused

    async def issue_link(
        self, link: IssueLink, needs_attention: tuple[str, ...], limits: Limits
    ) -> str | None:
        """Put a link in force, and its approver; answers why not, or ``None``.

        A request that has ended keeps the links it had: nobody can use them any more.
        """
        requests, request = tables.requests, link.request
        async with transaction(self._engine, writes=True) as connection:
            known = await _find(connection, link.request_id)
            if known is None or known.status.is_final or known.link_ordinal > link.ordinal:
                return None
            if known.customer_email != request.customer_email:
                await one_at_a_time(connection, request)
                if refused := await customer_has_enough(connection, request, link.at, limits):
                    return refused
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

    async def activate(self, record: RecordDecision) -> Decision:
        """The account becomes active; the customer and the added users get access.

        Answers the decision that counts: an earlier one, if the store has one.
        """
        async with transaction(self._engine, writes=True) as connection:
            request = await _decide(connection, record)
            if request is None:
                return await _decided(connection, record.request_id)
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
        """The request ends without an account; its domain is free again. Answers as above."""
        async with transaction(self._engine, writes=True) as connection:
            if await _decide(connection, record) is None:
                return await _decided(connection, record.request_id)
            await _free_domain(connection, record.request_id)
            return record.decision

    async def find_request(self, request_id: str) -> StoredRequest | None:
        async with transaction(self._engine, writes=False) as connection:
            return await _find(connection, request_id)

    async def emails_of(self, request: StoredRequest) -> tuple[EmailStatus, ...]:
        """How far each of its emails is, also when Temporal has forgotten it."""
        emails = await self.emails.of_request(request.id)
        return tuple(
            status
            for email, status in emails
            if status.state != EmailState.QUEUED
            or not (request.makes_untrue(email) or _is_overtaken(email, emails))
        )

    async def refusal(
        self, request: SmartAccountRequest, at: datetime, limits: Limits
    ) -> str | None:
        """Why a request would be rejected if it were made now; ``None`` if it would not."""
        async with transaction(self._engine, writes=False) as connection:
            return await refusal(connection, request, at, limits)

    async def find_by_key(self, requester_email: str, key: str) -> StoredRequest | None:
        """The request that a requester made under an idempotency key."""
        async with transaction(self._engine, writes=False) as connection:
            row = (
                await connection.execute(
                    select(tables.requests).where(
                        tables.requests.c.idempotency_key == key,
                        func.lower(tables.requests.c.requester_email) == requester_email.lower(),
                    )
                )
            ).first()
            return stored_request(row) if row else None

    async def note_signalled(self, request_id: str, signal: str) -> None:
        """Remember that Temporal has the customer's answer; the first one stays."""
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(tables.requests)
                .where(tables.requests.c.id == request_id, tables.requests.c.signalled.is_(None))
                .values(signalled=signal)
            )

    # ---- activation links --------------------------------------------------------------

    async def link_hash(self, request_id: str, ordinal: int) -> str | None:
        links = tables.activation_links
        async with transaction(self._engine, writes=False) as connection:
            found: str | None = await connection.scalar(
                select(links.c.token_hash).where(
                    links.c.request_id == request_id, links.c.ordinal == ordinal
                )
            )
            return found

    async def save_link(self, request_id: str, ordinal: int, token_hash: str) -> None:
        """The hash under which the link is found from now on, in place of any other."""
        links = tables.activation_links
        async with transaction(self._engine, writes=True) as connection:
            key = (links.c.request_id == request_id, links.c.ordinal == ordinal)
            changed = await connection.execute(
                update(links).where(*key).values(token_hash=token_hash)
            )
            if not changed.rowcount:
                await connection.execute(
                    insert(links).values(
                        request_id=request_id, ordinal=ordinal, token_hash=token_hash
                    )
                )

    async def find_link(self, token_hash: str) -> ActivationLink | None:
        links = tables.activation_links
        async with transaction(self._engine, writes=False) as connection:
            row = (
                await connection.execute(
                    select(tables.requests, links.c.ordinal)
                    .join(links, links.c.request_id == tables.requests.c.id)
                    .where(links.c.token_hash == token_hash)
                )
            ).one_or_none()
            return ActivationLink(ordinal=row.ordinal, request=stored_request(row)) if row else None


def _is_overtaken(email: Email, emails: Sequence[tuple[Email, object]]) -> bool:
    """Whether a newer reminder took the place of this one."""
    return email.kind == EmailKind.REMINDER and any(
        other.kind == EmailKind.REMINDER and other.number > email.number for other, _ in emails
    )


async def _find(connection: AsyncConnection, request_id: str) -> StoredRequest | None:
    row = (
        await connection.execute(select(tables.requests).where(tables.requests.c.id == request_id))
    ).one_or_none()
    return stored_request(row) if row else None


async def _insert_request(
    connection: AsyncConnection,
    new: OpenRequest,
    needs_attention: tuple[str, ...],
    refused: str | None,
) -> None:
    request = new.request
    await connection.execute(
        insert(tables.requests).values(
            id=new.request_id,
            workflow_id=workflow_id(request.account_domain),
            status=Status.REJECTED if refused else Status.PENDING,
            account_name=request.account_name,
            account_domain=request.account_domain,
            customer_email=request.customer_email,
            requester_email=request.requester.email,
            requester_name=request.requester.name,
            requester_company=request.requester.company,
            note_to_customer=request.note_to_customer,
            note_to_added_users=request.note_to_added_users,
            added_users=request.added_users,
            needs_attention=needs_attention,
            requested_at=new.requested_at,
            deadline=new.deadline,
            idempotency_key=new.idempotency_key,
            link_ordinal=1,
            decided_at=new.requested_at if refused else None,
            reason=refused,
        )
    )


async def _settle_what_was_terminated(connection: AsyncConnection, new: OpenRequest) -> None:
    """Withdraw the domain's open requests.

    The workflow id names the domain and only one run has it, so another request that is still
    open here belongs to a run that was terminated and could not put its row right. An older one:
    a terminated run's last activity may come late, when a newer request has the domain.
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
    """End an open request; answers it, or ``None`` if it has ended before."""
    decision, request = record.decision, record.request
    who = (
        {"customer_email": request.customer_email, "added_users": request.added_users}
        if request
        else {}
    )
    requests = tables.requests
    changed = await connection.execute(
        update(requests)
        .where(requests.c.id == record.request_id, requests.c.status == Status.PENDING)
        .values(
            status=decision.status,
            decided_at=decision.at,
            decided_by=decision.by,
            reason=decision.reason,
            **who,
        )
    )
    return await _find(connection, record.request_id) if changed.rowcount else None


async def _decided(connection: AsyncConnection, request_id: str) -> Decision:
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
