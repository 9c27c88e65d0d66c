"""What we keep of a partner: the company, where the identity provider does not know it."""

from contextlib import suppress
from datetime import UTC, datetime

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.store import tables
from smart_accounts.store.database import transaction


class Partners:
    """Each method raises ``Unavailable`` if the database does not answer.

    A partner is the ``subject`` of an ``issuer``: neither alone is unique, and an email address
    may change hands.
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
        """Keep what the partner answered, once: the first answer stays, and is returned."""
        with suppress(IntegrityError):
            async with transaction(self._engine, writes=True) as connection:
                await connection.execute(
                    insert(tables.partners).values(
                        issuer=issuer, subject=subject, company=company, since=datetime.now(UTC)
                    )
                )
        return await self.company_of(issuer, subject) or company
