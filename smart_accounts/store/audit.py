"""The audit trail: who did what, when and from where. Events are only added, never changed.

Erasing a person empties their row in ``people`` and the client addresses of their events.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import bindparam, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.store import tables
from smart_accounts.store.database import insert_on_conflict, transaction

MAX_ADDRESS = 64
MAX_USER_AGENT = 300


class Role(StrEnum):
    REQUESTER = "requester"
    OPERATOR = "operator"
    CUSTOMER = "customer"


class Action(StrEnum):
    SEND = "send"
    ADOPT = "adopt"
    RESEND = "resend"
    REPLACE_APPROVER = "replace-approver"
    WITHDRAW = "withdraw"
    ACCEPT = "accept"
    DECLINE = "decline"
    APPROVE = "approve"
    REJECT = "reject"
    CLOSE = "close"


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A person who does something. A customer has no identity, because customers do not sign in."""

    role: Role
    email: str
    name: str | None = None
    identity: Identity | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a call comes from."""

    client_address: str | None
    user_agent: str | None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a customer answered through. ``text`` is what they agreed to, if they accepted."""

    link_ordinal: int
    text: str | None = None


@dataclass(frozen=True, kw_only=True)
class AuditEvent:
    """One entry of the audit trail. ``email`` and ``name`` are empty once the person is erased."""

    at: datetime
    action: Action
    role: Role
    email: str | None
    name: str | None
    client_address: str | None
    user_agent: str | None
    link_ordinal: int | None
    agreed_text: str | None


_ACCEPTED_AT = select(func.max(tables.audit_events.c.at)).where(
    tables.audit_events.c.request_id == bindparam("request_id"),
    tables.audit_events.c.action == Action.ACCEPT,
)


class AuditTrail:
    """Each method raises ``Unavailable`` if the database does not respond."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def record(
        self,
        action: Action,
        actor: Actor,
        origin: Origin,
        request_id: str | None = None,
        agreement: Agreement | None = None,
    ) -> None:
        """Add an event. Sending the same request again adds none."""
        async with transaction(self._engine, writes=True) as connection:
            now = datetime.now(UTC)
            if action is Action.SEND and await _is_recorded(connection, action, request_id):
                return
            await record(connection, action, actor, origin, now, request_id, agreement)

    async def of_request(self, request_id: str) -> tuple[AuditEvent, ...]:
        """Return the events about a request, oldest first."""
        events, people = tables.audit_events, tables.people.c
        async with transaction(self._engine, writes=False) as connection:
            rows = await connection.execute(
                select(events, people.email, people.name)
                .join(tables.people, people.id == events.c.person_id)
                .where(events.c.request_id == request_id)
                .order_by(events.c.id)
            )
            names = AuditEvent.__dataclass_fields__
            found = [{name: row._mapping[name] for name in names} for row in rows]  # noqa: SLF001 - SQLAlchemy's public name for it
        return tuple(
            AuditEvent(**each | {"action": Action(each["action"]), "role": Role(each["role"])})
            for each in found
        )


async def find_acceptance(connection: AsyncConnection, request_id: str) -> datetime | None:
    """Return when the customer last accepted on a page, or None if they never did."""
    found: datetime | None = await connection.scalar(_ACCEPTED_AT, {"request_id": request_id})
    return found


async def record(
    connection: AsyncConnection,
    action: Action,
    actor: Actor,
    origin: Origin,
    at: datetime,
    request_id: str | None,
    agreement: Agreement | None = None,
) -> None:
    """Add an event in the transaction of the change that it is about."""
    await connection.execute(
        insert(tables.audit_events).values(
            at=at,
            request_id=request_id,
            role=actor.role,
            person_id=await _person_id(connection, actor),
            action=action,
            client_address=origin.client_address,
            user_agent=origin.user_agent,
            link_ordinal=agreement.link_ordinal if agreement else None,
            agreed_text=agreement.text if agreement else None,
        )
    )


async def _person_id(connection: AsyncConnection, actor: Actor) -> int:
    """Return the id of the person's row, with their present address and name.

    A customer gets a new row each time, because an address may later belong to somebody else.
    """
    people = tables.people
    current = {"email": actor.email, "name": actor.name}
    statement = insert_on_conflict(connection, people).values(**current)
    if actor.identity:
        key = {"issuer": actor.identity.issuer, "subject": actor.identity.subject}
        statement = statement.values(**key).on_conflict_do_update(
            index_elements=[*key], set_=current
        )
    found: int = await connection.scalar(statement.returning(people.c.id))
    return found


async def _is_recorded(connection: AsyncConnection, action: Action, request_id: str | None) -> bool:
    events = tables.audit_events.c
    found = await connection.scalar(
        select(events.id).where(events.request_id == request_id, events.action == action).limit(1)
    )
    return found is not None
