"""Sessions of signed-in partners."""

import hmac
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import Requester
from smart_accounts.contract.webhooks import EndpointState
from smart_accounts.store import tables
from smart_accounts.store.database import transaction

LIFETIME = timedelta(hours=8)  # from the sign-in; using the pages does not extend it
IDLE_LIFETIME = timedelta(hours=1)  # from the last use
EXPIRED_KEPT = timedelta(hours=24)  # to know who sent a form too late
PURGED_AT_ONCE = 10
LISTED_AT_MOST = 100

_sessions = tables.sessions.c
# Only the sign-out reads the ID token.
_columns_of_a_session = [each for each in _sessions if each is not _sessions.sealed_id_token]


@dataclass(frozen=True, kw_only=True)
class Partner:
    """A signed-in person. The fields follow the rules of ``Requester``.

    ``issuer`` and ``subject`` together identify the person: the identity provider and its id of
    the person. The other fields may change. ``company`` is empty if the provider does not name it
    and the person has not entered it yet. ``email_verified`` is False if the provider does not say
    that the address is the person's, and we only trust that it is.
    """

    issuer: str
    subject: str
    email: str
    name: str
    company: str
    is_operator: bool = False
    email_verified: bool = True

    @property
    def identity(self) -> Identity:
        return Identity(self.issuer, self.subject)

    @property
    def requester(self) -> Requester:
        return Requester(email=self.email, name=self.name, company=self.company)


@dataclass(frozen=True, kw_only=True)
class Session:
    """One session. Each form contains ``csrf``, which other sites cannot know.

    ``id`` is the SHA-256 digest of the secret in the cookie. It may be shown, because the secret
    cannot be found from it.
    """

    id: str
    partner: Partner
    csrf: str
    began_at: datetime
    last_used_at: datetime
    client_address: str
    user_agent: str

    def owns_form(self, csrf: str) -> bool:
        """Return True if a form with this token comes from a page of this session."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


class StoredSessions:
    """Each method raises ``Unavailable`` if the database does not respond.

    A session that has ended has no row. A session that has expired is only found by
    ``find_expired``, and a session that belongs to another ``issuer`` is never found.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def begin(self, session: Session, replaced: str, sealed_id_token: str | None) -> None:
        """Store a new session in place of the session ``replaced``. Purge some expired ones.

        The webhook endpoints of a former operator that get the events of all requests are paused.
        """
        row = {name: value for name, value in vars(session).items() if name != "partner"}
        row |= {**asdict(session.partner), "sealed_id_token": sealed_id_token}
        began_before = session.began_at - LIFETIME - EXPIRED_KEPT
        old = select(_sessions.id).where(_sessions.began_at < began_before)
        # Without SKIP LOCKED, two transactions could wait for each other's rows.
        purged = old.limit(PURGED_AT_ONCE).with_for_update(skip_locked=True)
        ended = or_(_sessions.id == replaced, _sessions.id.in_(purged))
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(delete(tables.sessions).where(ended))
            await connection.execute(insert(tables.sessions).values(row))
            if not session.partner.is_operator:
                await _pause_endpoints_for_all_requests(connection, session.partner)

    async def find(self, id_: str, issuer: str) -> Session | None:
        found = await self._open(issuer, _sessions.id == id_)
        return found[0] if found else None

    async def find_expired(self, id_: str, issuer: str) -> Session | None:
        """Return a session even if it has expired. Use it only to know who sent a late form."""
        found = await self._find(_sessions.id == id_, _sessions.issuer == issuer)
        return found[0] if found else None

    async def of_person(self, person: Partner) -> list[Session]:
        """Return the person's open sessions, last used first."""
        return await self._open(person.issuer, _is_of(person))

    async def of_email(self, issuer: str, email: str) -> list[Session]:
        """Return the open sessions of everyone with this email address, last used first."""
        return await self._open(issuer, _has_email(email))

    async def sealed_id_token(self, id_: str) -> str | None:
        statement = select(_sessions.sealed_id_token).where(_sessions.id == id_)
        async with transaction(self._engine, writes=False) as connection:
            found: str | None = await connection.scalar(statement)
            return found

    async def note_use(self, id_: str, at: datetime) -> None:
        statement = update(tables.sessions).where(_sessions.id == id_).values(last_used_at=at)
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(statement)

    async def set_company(self, id_: str, company: str) -> None:
        statement = update(tables.sessions).where(_sessions.id == id_).values(company=company)
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(statement)

    async def end(self, id_: str, owner: Partner | None = None) -> Identity | None:
        """End a session, or only if it is the owner's. Returns whose it was, if it existed."""
        is_owned = [_is_of(owner)] if owner else []
        return next(iter(await self._end(_sessions.id == id_, *is_owned)), None)

    async def end_of_person(self, person: Partner) -> int:
        """End all sessions of the person. Returns how many there were."""
        return len(await self._end(_is_of(person)))

    async def end_of_email(self, issuer: str, email: str) -> list[Identity]:
        """End all sessions of everyone with this email address. Returns whose each was."""
        return await self._end(_sessions.issuer == issuer, _has_email(email))

    async def _open(self, issuer: str, *conditions: ColumnElement[bool]) -> list[Session]:
        now = datetime.now(UTC)
        return await self._find(
            *conditions,
            _sessions.issuer == issuer,
            _sessions.began_at > now - LIFETIME,
            _sessions.last_used_at > now - IDLE_LIFETIME,
        )

    async def _find(self, *conditions: ColumnElement[bool]) -> list[Session]:
        statement = (
            select(*_columns_of_a_session)
            .where(*conditions)
            .order_by(_sessions.last_used_at.desc(), _sessions.id)
            .limit(LISTED_AT_MOST)
        )
        async with transaction(self._engine, writes=False) as connection:
            return _sessions_in((await connection.execute(statement)).all())

    async def _end(self, *conditions: ColumnElement[bool]) -> list[Identity]:
        statement = delete(tables.sessions).where(*conditions)
        async with transaction(self._engine, writes=True) as connection:
            ended = await connection.execute(
                statement.returning(_sessions.issuer, _sessions.subject)
            )
            return [Identity(issuer, subject) for issuer, subject in ended]


async def _pause_endpoints_for_all_requests(connection: AsyncConnection, person: Partner) -> None:
    """Keep other partners' requests from a person who was an operator and is not any more."""
    endpoints = tables.webhook_endpoints
    await connection.execute(
        update(endpoints)
        .where(
            endpoints.c.issuer == person.issuer,
            endpoints.c.subject == person.subject,
            endpoints.c.for_all_requests,
            endpoints.c.state == EndpointState.ENABLED,
        )
        .values(state=EndpointState.PAUSED)
    )


def _is_of(person: Partner) -> ColumnElement[bool]:
    return and_(_sessions.issuer == person.issuer, _sessions.subject == person.subject)


def _has_email(email: str) -> ColumnElement[bool]:
    return func.lower(_sessions.email) == func.lower(email)


def _sessions_in(rows: Sequence[Row[Any]]) -> list[Session]:
    names = {field.name for field in fields(Partner)}
    found = []
    for row in rows:
        values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        partner = Partner(**{name: values.pop(name) for name in names})
        found.append(Session(partner=partner, **values))
    return found
