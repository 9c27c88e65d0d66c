"""The company of a partner whose identity provider does not name it."""

from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.contract.identity import Identity
from smart_accounts.store import tables
from smart_accounts.store.database import transaction


class Partners:
    """Each method raises ``Unavailable`` if the database does not respond.

    A partner is identified by ``issuer`` and ``subject``. Neither is unique by itself, and an email
    address may later belong to another person.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def company_of(self, issuer: str, subject: str) -> str | None:
        partners = tables.partners.c
        async with transaction(self._engine, writes=False) as connection:
            found: str | None = await connection.scalar(
                select(partners.company).where(
                    partners.issuer == issuer, partners.subject == subject
                )
            )
            return found

    async def keep_company(self, issuer: str, subject: str, company: str) -> str:
        """Store the company that the partner entered. Returns the first company, which is kept."""
        with suppress(IntegrityError):
            async with transaction(self._engine, writes=True) as connection:
                await connection.execute(
                    insert(tables.partners).values(
                        issuer=issuer, subject=subject, company=company, since=datetime.now(UTC)
                    )
                )
        return await self.company_of(issuer, subject) or company


ENTERED_COMPANY = select(tables.partners.c.company).where(
    tables.partners.c.issuer == bindparam("owner_issuer"),
    tables.partners.c.subject == bindparam("owner_subject"),
)


async def company_is_stated(
    connection: AsyncConnection, person: Identity | None, company: str
) -> bool:
    """Return True if the person entered the company, or if the person is not known.

    Otherwise their identity provider named it.
    """
    if person is None:
        return True
    owner = {"owner_issuer": person.issuer, "owner_subject": person.subject}
    return bool(await connection.scalar(ENTERED_COMPANY, owner) == company)
