"""Migrations of the database, which run when a worker starts."""

import asyncio
import functools
import os
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from smart_accounts.errors import BadSetting
from smart_accounts.store.database import create_engine, transaction
from smart_accounts.store.search import add_missing_texts

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x536D4163  # any number that no other program locks in this database


@functools.cache
def revisions() -> tuple[str, ...]:
    """Return the revisions that this code knows, oldest first. It needs the last one."""
    files = (MIGRATIONS / "versions").glob("[0-9]*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


async def find_revision(engine: AsyncEngine) -> str | None:
    """Return the revision of the database, or None if it was never migrated.

    Raises:
        Unavailable: the database does not respond.
    """
    try:
        async with transaction(engine, writes=False) as connection:
            found: str | None = await connection.scalar(
                text("SELECT version_num FROM alembic_version")
            )
            return found
    except DBAPIError:  # the database responds, but has no such table
        return None


async def migrate(url: str) -> None:
    """Migrate the database to the newest revision. Several programs may call this at once.

    Raises:
        BadSetting: the database is new, and its encoding is not UTF8.
        Unavailable: the database does not respond.
    """
    _create_private_file(url)
    engine = create_engine(url, may_take_long=True)
    try:
        revision = await find_revision(engine)
        if revision != revisions()[-1]:
            async with transaction(engine, writes=True) as connection:
                if connection.dialect.name == "postgresql":
                    if revision is None:
                        await _require_utf8(connection)
                    await connection.execute(
                        text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK}
                    )
                await connection.run_sync(upgrade)
        await add_missing_texts(engine)
    finally:
        await asyncio.shield(engine.dispose())


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision."""
    # Alembic takes a fifth of the start of a worker.
    from alembic import command  # noqa: PLC0415 - a start seldom needs it
    from alembic.config import Config  # noqa: PLC0415 - a start seldom needs it

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def _require_utf8(connection: AsyncConnection) -> None:
    """Refuse other encodings. PostgreSQL would count the bytes of a text, or reject characters."""
    encoding = await connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise BadSetting(
            f"bad settings: SMART_ACCOUNTS_DATABASE_URL: the database has the encoding {encoding}."
            " Create it with ENCODING 'UTF8' TEMPLATE template0"
        )


def _create_private_file(url: str) -> None:
    """Create SQLite's file so that other users of the machine cannot read it."""
    parts = make_url(url)
    if parts.drivername.startswith("sqlite") and parts.database:
        with suppress(OSError):  # the connection reports what is wrong
            os.close(os.open(parts.database, os.O_CREAT, 0o600))
