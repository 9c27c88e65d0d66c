"""Requests that Temporal knows better than a store that was restored from an older backup."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import ErasedRequest, RecordDecision, RequestRecord
from smart_accounts.contract.webhooks import EventType
from smart_accounts.store import tables
from smart_accounts.store.comparison import KnownRequest
from smart_accounts.store.database import insert_on_conflict, transaction
from smart_accounts.store.decisions import (
    activate_account,
    decide,
    free_domain,
    lock_row,
    withdraw_terminated,
)
from smart_accounts.store.limits import lock_requester
from smart_accounts.store.outbox import add_event
from smart_accounts.store.partners import company_is_stated
from smart_accounts.store.records import ERASED, AccountState, StoredRequest, stored_reminders
from smart_accounts.store.search import search_text_of

APPROVER_UNKNOWN = "The approver is not known, because the database was restored."


class Rebuilt(Enum):
    DONE = auto()
    NOT_NEEDED = auto()
    DOMAIN_TAKEN = auto()
    """A newer request holds the domain, so that this one cannot have its account."""


def is_behind(known: KnownRequest | None, record: RequestRecord) -> bool:
    """Return True if the store lacks something that the workflow has recorded in it before."""
    if record.status is Status.REQUESTED:
        return False  # the workflow has not opened it yet
    if known is None:
        return True
    decision = record.decision
    if known.status.is_final:
        # The store ended it because its workflow was gone. In truth it had ended before.
        return known.was_settled and decision is not None and decision.status != known.status
    return (
        decision is not None
        or record.link_ordinal > known.link_ordinal
        or (record.approved_at is not None and known.status is Status.IN_REVIEW)
    )


def is_before_erasure(known: KnownRequest, erased: ErasedRequest | None) -> bool:
    """Return True if a restored store has a request as it was before its erasure."""
    return known.erased_at is None or (erased is not None and known.erased_at < erased.at)


def lacks_end(known: KnownRequest, erased: ErasedRequest) -> bool:
    """Return True if a restored store does not know how an erased request ended."""
    has_closing = known.closed_at is not None or erased.closed_at is None
    is_complete = _has_decision(known, erased) and has_closing and not known.emails_due
    return is_before_erasure(known, erased) and not is_complete


def _has_decision(known: KnownRequest, erased: ErasedRequest) -> bool:
    # Earlier releases stored no time of a rejection.
    return known.status.is_final and known.decided_at in (None, erased.decision.at)


class Rebuilding:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def rebuild(
        self,
        record: RequestRecord,
        *,
        owner: Identity | None,
        idempotency_key: str | None,
        run_id: str,
        link_hashes: Sequence[str],
    ) -> Rebuilt:
        """Bring a request to the state that its workflow has, in one transaction.

        ``link_hashes`` are those of all its links, the first one first. A repeat changes nothing.

        Raises:
            Unavailable: the database does not respond.
        """
        request = record.request
        async with transaction(self._engine, writes=True) as connection:
            await lock_requester(connection, owner, request.requester.email)
            before = await lock_row(connection, record.request_id)
            if not is_behind(KnownRequest.of(before) if before else None, record):
                return Rebuilt.NOT_NEEDED
            await withdraw_terminated(connection, request.account_domain, record.requested_at)
            if _holds_domain(record) and await _is_taken(
                connection, request.account_domain, record.request_id
            ):
                return Rebuilt.DOMAIN_TAKEN
            if before is None:
                await _insert(connection, record, owner, idempotency_key)
            await _update(connection, record, run_id)
            await _add_links(connection, record.request_id, link_hashes)
            if record.decision:
                await _decide(
                    connection,
                    RecordDecision(
                        request_id=record.request_id,
                        decision=record.decision,
                        request=request,
                    ),
                )
            else:
                await _add_events(connection, record, before)
            return Rebuilt.DONE

    async def restore_end(self, erased: ErasedRequest) -> Rebuilt:
        """Give a request the end that it had before its history was erased. Nobody is told.

        A repeat changes nothing.

        Raises:
            Unavailable: the database does not respond.
        """
        async with transaction(self._engine, writes=True) as connection:
            row = await lock_row(connection, erased.request_id)
            known = KnownRequest.of(row) if row else None
            if known is None or not lacks_end(known, erased):
                return Rebuilt.NOT_NEEDED
            is_decided = _has_decision(known, erased)
            if erased.is_open and await _is_taken(connection, known.account_domain, known.id):
                return Rebuilt.DOMAIN_TAKEN
            values: dict[str, Any] = {"missing_since": None, "emails_due": False}
            if not is_decided:
                values["status"] = Status.PENDING
            if erased.is_open and known.link_ordinal < erased.link_ordinal:
                # Perhaps this approver was replaced, and must not get access.
                values |= {"customer_email": ERASED, "needs_attention": [APPROVER_UNKNOWN]}
            requests = tables.requests
            await connection.execute(
                update(requests).where(requests.c.id == known.id).values(values)
            )
            if not is_decided:
                record = RecordDecision(request_id=known.id, decision=erased.decision)
                await _decide(connection, record)
                deliveries = tables.webhook_deliveries
                await connection.execute(
                    delete(deliveries).where(deliveries.c.request_id == known.id)
                )
            if erased.closed_at and known.closed_at is None:
                await _close(connection, known.id, erased.closed_at)
            return Rebuilt.DONE


def _holds_domain(record: RequestRecord) -> bool:
    return record.decision is None or record.decision.status is Status.ACTIVE


async def _is_taken(connection: AsyncConnection, domain: str, request_id: str) -> bool:
    accounts = tables.accounts.c
    holder = select(accounts.id).where(
        accounts.domain == domain,
        accounts.state != AccountState.CLOSED,
        accounts.id != request_id,
    )
    return await connection.scalar(holder) is not None


async def _insert(
    connection: AsyncConnection,
    record: RequestRecord,
    owner: Identity | None,
    idempotency_key: str | None,
) -> None:
    """Add the request as it was made, with a closed account."""
    request = record.request
    stored = StoredRequest.new(
        record.request_id,
        request,
        record.requested_at,
        status=Status.PENDING,
        owner=owner,
        company_is_stated=await company_is_stated(connection, owner, request.requester.company),
        retry_at=record.retry_at,
    )
    stored = replace(stored, needs_review=record.needs_review)
    await connection.execute(
        insert(tables.requests).values(
            **asdict(stored),
            idempotency_key=idempotency_key,
            reminders=stored_reminders(request),
            search_text=search_text_of(request),
        )
    )
    await connection.execute(
        insert(tables.accounts).values(
            id=stored.id,
            domain=stored.account_domain,
            name=stored.account_name,
            state=AccountState.CLOSED,
        )
    )


def _open_status(record: RequestRecord) -> Status:
    """Return the status that the request has, or had before its decision."""
    is_in_review = record.needs_review and record.approved_at is None
    return Status.IN_REVIEW if is_in_review else Status.PENDING


async def _update(connection: AsyncConnection, record: RequestRecord, run_id: str) -> None:
    """Set what has changed since the start. An ended request is open again until its decision."""
    await connection.execute(
        update(tables.requests)
        .where(tables.requests.c.id == record.request_id)
        .values(
            status=_open_status(record),
            customer_email=record.request.customer_email,
            added_users=record.request.added_users,
            search_text=search_text_of(record.request),
            needs_attention=record.needs_attention,
            approved_at=record.approved_at,
            link_ordinal=max(record.link_ordinal, 1),
            run_id=run_id if run_id != record.request_id else None,
            missing_since=None,
            emails_due=False,
        )
    )
    if record.decision is None:
        await connection.execute(
            update(tables.accounts)
            .where(tables.accounts.c.id == record.request_id)
            .values(state=AccountState.PROVISIONAL)
        )


async def _add_links(
    connection: AsyncConnection, request_id: str, link_hashes: Sequence[str]
) -> None:
    for ordinal, token_hash in enumerate(link_hashes, 1):
        await connection.execute(
            insert_on_conflict(connection, tables.activation_links)
            .values(request_id=request_id, ordinal=ordinal, token_hash=token_hash)
            .on_conflict_do_nothing()
        )


async def _decide(connection: AsyncConnection, record: RecordDecision) -> None:
    decided = await decide(connection, record)
    assert decided  # the caller has opened it
    if record.decision.status is Status.ACTIVE:
        await activate_account(connection, decided, record.decision.at)
    else:
        await free_domain(connection, record.request_id)


async def _close(connection: AsyncConnection, request_id: str, at: datetime) -> None:
    """Close an account again. Who closed it, and why, was erased."""
    requests, users = tables.requests, tables.account_users
    await connection.execute(
        update(requests)
        .where(requests.c.id == request_id)
        .values(closed_at=at, closed_by=ERASED, close_reason=None)
    )
    await connection.execute(delete(users).where(users.c.account_id == request_id))
    await free_domain(connection, request_id)


async def _add_events(
    connection: AsyncConnection, record: RequestRecord, before: Row[Any] | None
) -> None:
    """Tell subscribers what an open request has become."""
    status, at = _open_status(record), record.approved_at or record.requested_at
    if before is None or before.status != status:
        await add_event(connection, record.request_id, EventType.of(status), at)
    if before is not None and before.customer_email != record.request.customer_email:
        now = datetime.now(UTC)  # the record does not say when
        await add_event(connection, record.request_id, EventType.APPROVER_REPLACED, now)
