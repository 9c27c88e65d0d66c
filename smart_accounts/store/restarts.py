"""Requests whose workflow was lost, and the runs that continue them."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Row, and_, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.field_errors import FieldError
from smart_accounts.contract.fields import rules_of_open_requests
from smart_accounts.contract.messages import EmailKind, SmartAccountRequest, Status
from smart_accounts.contract.steps import Checked, OpenRequest, Restarted
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.records import OPEN, StoredRequest, stored_request

_NOT_MISSING = FieldError(
    field="restarts", message="must name a request whose workflow is missing, with the same input"
)


@dataclass(frozen=True)
class LostRequest:
    """What a new run needs to continue a request."""

    stored: StoredRequest
    start_input: SmartAccountRequest
    idempotency_key: str | None


class Restarts:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find_lost(self, request_id: str) -> LostRequest | None:
        """Return a request whose workflow was not found, unless it has ended or is not valid."""
        requests = tables.requests.c
        async with transaction(self._engine, writes=False) as connection:
            found = await connection.execute(
                select(tables.requests).where(
                    requests.id == request_id,
                    requests.status.in_(OPEN),
                    requests.missing_since.is_not(None),
                )
            )
            row = found.one_or_none()
        if row is None or (start_input := _start_input(row)) is None:
            return None
        return LostRequest(stored_request(row), start_input, row.idempotency_key)

    async def take_over(self, new: OpenRequest) -> Checked:
        """Let a run continue the request that its start names.

        Any client can start a run, so the request must be missing, and the start input must be
        what the store has.
        """
        requests = tables.requests
        async with transaction(self._engine, writes=True) as connection:
            found = await connection.execute(
                select(requests).where(requests.c.id == new.restarts).with_for_update()
            )
            row = found.one_or_none()
            is_repeat = row is not None and row.run_id == new.request_id  # after the commit
            if row is None or not (is_repeat or _may_restart(row, new.request)):
                return Checked(invalid=(_NOT_MISSING,))
            await connection.execute(
                update(requests)
                .where(requests.c.id == row.id)
                .values(run_id=new.request_id, missing_since=None)
            )
        known = stored_request(row)
        return Checked(
            needs_attention=known.needs_attention,
            in_review=known.status is Status.IN_REVIEW,
            restarted=restarted(known),
        )


async def was_asked(connection: AsyncConnection, request_id: str) -> bool:
    """Return True if the run before a reset, or a lost task, has begun to ask the customer."""
    emails = tables.emails.c
    is_activation = and_(emails.request_id == request_id, emails.kind == EmailKind.ACTIVATION)
    return bool(await connection.scalar(select(exists().where(is_activation))))


def restarted(known: StoredRequest) -> Restarted:
    """Return what a new run needs to continue an open request."""
    return Restarted(
        request_id=known.id,
        requested_at=known.requested_at,
        link_ordinal=known.link_ordinal if known.customer_was_asked else 0,
        approved_at=known.approved_at,
        answer=known.answer,
        customer_email=known.customer_email,
    )


def _may_restart(row: Row[Any], request: SmartAccountRequest) -> bool:
    is_missing = row.status in OPEN and row.missing_since is not None
    return is_missing and _start_input(row) == request


def _start_input(row: Row[Any]) -> SmartAccountRequest | None:
    """Return the request as its workflow would have to be started now, with the same deadline."""
    given = {
        "account_name": row.account_name,
        "account_domain": row.account_domain,
        "customer_email": row.customer_email,
        "note_to_customer": row.note_to_customer,
        "user_emails": row.added_users,
        "note_to_added_users": row.note_to_added_users,
        "requester": {
            "email": row.requester_email,
            "name": row.requester_name,
            "company": row.requester_company,
        },
        "acceptance_window": row.deadline - row.requested_at,
    }
    if row.reminders is not None:
        given["reminders"] = row.reminders
    with rules_of_open_requests(), suppress(ValidationError):
        return SmartAccountRequest.model_validate(given)
    return None
