"""Requests in the store, as a worker would leave them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.steps import Decision, OpenRequest, RecordDecision
from smart_accounts.store import tables
from smart_accounts.store.store import AccountStore
from tests.support.limits import new_limits

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LIMITS = new_limits()
ISSUER = "https://login.example"


async def open_request(
    store: AccountStore, example: dict[str, Any], request_id: str, **changes: Any
) -> None:
    owner = changes.pop("owner", Identity(ISSUER, "pat"))
    requested_at = changes.pop("requested_at", NOW)
    request = example | {"account_domain": f"{request_id}.example"} | changes
    await store.requests.open(
        OpenRequest(
            request_id=request_id,
            request=SmartAccountRequest.model_validate(request),
            requested_at=requested_at,
            deadline=requested_at + timedelta(days=90),
            requester_issuer=owner.issuer,
            requester_subject=owner.subject,
            idempotency_key=f"key of {request_id}",
        ),
        (),
        LIMITS,
    )


async def decide(store: AccountStore, request_id: str, status: Status, **more: Any) -> None:
    decision = Decision(status=status, at=NOW, **more)
    record = RecordDecision(request_id=request_id, decision=decision)
    if status is Status.ACTIVE:
        await store.requests.activate(record)
    else:
        await store.requests.close(record)


async def everything(store: AccountStore) -> str:
    """Return all rows of all tables as text."""
    async with store.engine.connect() as connection:
        rows = [
            (await connection.execute(select(table))).all()
            for table in tables.metadata.sorted_tables
        ]
    return str(rows).lower()
