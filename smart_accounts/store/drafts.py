"""Drafts: request forms as a person typed them. The store keeps them for a day."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.store import tables
from smart_accounts.store.database import insert_on_conflict, transaction
from smart_accounts.store.sessions import Partner

KEPT = timedelta(hours=24)
KEPT_AT_MOST = 10  # drafts of one person; each is at most as long as a form
PURGED_AT_ONCE = 10

_drafts = tables.drafts.c


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A request form as it was typed, valid or not.

    ``rejection`` is the reason if the request was sent and rejected. ``is_late`` is True if the
    form was sent after the person's session had ended.
    """

    id: str
    fields: Mapping[str, str]
    rejection: str | None = None
    is_late: bool = False


class Drafts:
    """Each method raises ``Unavailable`` if the database does not respond.

    The browser sends the id of a draft, so two persons may have different drafts with the same id.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def save(self, owner: Partner, draft: Draft, at: datetime) -> None:
        """Store the draft in place of the owner's draft with the same id.

        This also removes the owner's oldest drafts, if there are too many, and some expired ones.
        """
        key = {"issuer": owner.issuer, "subject": owner.subject, "id": draft.id}
        content = asdict(draft) | {"email": owner.email, "saved_at": at}
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                insert_on_conflict(connection, tables.drafts)
                .values(key | content)
                .on_conflict_do_update(index_elements=[*key], set_=content)
            )
            await _remove_oldest(connection, owner.identity)
            await _purge(connection, at)

    async def find(self, owner: Identity, id_: str, at: datetime) -> Draft | None:
        """Return the owner's draft with this id, unless it has expired."""
        statement = select(_drafts.id, _drafts.fields, _drafts.rejection, _drafts.is_late).where(
            _is_of(owner), _drafts.id == id_, _drafts.saved_at > at - KEPT
        )
        async with transaction(self._engine, writes=False) as connection:
            row = (await connection.execute(statement)).first()
        return Draft(**row._mapping) if row else None  # noqa: SLF001 - SQLAlchemy's public name for it


async def _remove_oldest(connection: AsyncConnection, owner: Identity) -> None:
    # Without SKIP LOCKED, two transactions could wait for each other's rows.
    oldest = (
        select(_drafts.id)
        .where(_is_of(owner))
        .order_by(_drafts.saved_at.desc(), _drafts.id)
        .offset(KEPT_AT_MOST)
        .with_for_update(skip_locked=True)
    )
    await connection.execute(delete(tables.drafts).where(_is_of(owner), _drafts.id.in_(oldest)))


async def _purge(connection: AsyncConnection, at: datetime) -> None:
    key = (_drafts.issuer, _drafts.subject, _drafts.id)
    expired = select(*key).where(_drafts.saved_at <= at - KEPT).limit(PURGED_AT_ONCE)
    purged = tuple_(*key).in_(expired.with_for_update(skip_locked=True))
    await connection.execute(delete(tables.drafts).where(purged))


def _is_of(owner: Identity) -> ColumnElement[bool]:
    return and_(_drafts.issuer == owner.issuer, _drafts.subject == owner.subject)
