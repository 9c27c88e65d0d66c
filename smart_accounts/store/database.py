"""The connection to SQLite or PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Connection, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from smart_accounts.errors import Unavailable
from smart_accounts.settings import POOL_SIZE
from smart_accounts.store.primary import CONNECT_SECONDS, follow_primary

DEFAULT_SOURCE = "smart-accounts"
"""The ``source`` of webhook events in a program without ``PUBLIC_URL``."""
SQLITE_BUSY_SECONDS = 10
COMMAND_SECONDS = 10


def create_engine(
    url: str,
    *,
    pool_size: int = POOL_SIZE,
    may_take_long: bool = False,
    event_source: str = DEFAULT_SOURCE,
) -> AsyncEngine:
    """Return an engine that connects when it is first used. ``url`` is an SQLAlchemy async URL.

    On PostgreSQL it opens at most ``pool_size`` connections. ``event_source`` is the ``source`` of
    the webhook events that are written through it.

    Errors do not show parameters, because they reach logs and Temporal, and parameters hold
    email addresses.
    """
    if url.startswith("postgresql"):
        engine = _postgresql_engine(url, pool_size, None if may_take_long else COMMAND_SECONDS)
    else:
        engine = _sqlite_engine(url)
    engine.update_execution_options(event_source=event_source)
    return engine


def _postgresql_engine(url: str, pool_size: int, command_seconds: float | None) -> AsyncEngine:
    engine = create_async_engine(
        url,
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "command_timeout": command_seconds,
            # Without the driver's cache, statements have no name on the server. pgbouncer in
            # transaction mode may run each transaction on another connection, where the name of
            # a statement is unknown or taken.
            "statement_cache_size": 0,
        },
    )
    follow_primary(engine)
    return engine


def _sqlite_engine(url: str) -> AsyncEngine:
    engine = create_async_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": SQLITE_BUSY_SECONDS},
        execution_options={"write_queue": asyncio.Lock()},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # By default the driver begins a transaction late and as a reader. Two readers that both
        # go on to write fail with "database is locked" at once, without waiting.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # Overwrite what is deleted or changed, so that erased data does not stay in the file. Some
        # builds of SQLite do this by default.
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        # Past SQLAlchemy's cursor, which would cost three more calls of the driver's thread.
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        adapted: Any = connection.connection.dbapi_connection
        try:
            adapted.run_async(lambda driver: driver.execute(begin))
        except sqlite3.OperationalError as error:
            raise OperationalError(begin, None, error) from error

    return engine


@asynccontextmanager
async def transaction(engine: AsyncEngine, *, writes: bool) -> AsyncIterator[AsyncConnection]:
    """Open a transaction that is committed at the end of the block.

    Raises:
        Unavailable: the database does not respond.
    """
    try:
        async with _turn(engine, writes=writes), engine.connect() as connection:
            connection = await connection.execution_options(writes=writes)  # noqa: PLW2901 - the same connection, configured
            async with connection.begin():
                yield connection
    except (OSError, TimeoutError, SQLAlchemyError) as error:
        if _is_fault(error):
            raise
        raise Unavailable("The database does not respond.") from error


@asynccontextmanager
async def _turn(engine: AsyncEngine, *, writes: bool) -> AsyncIterator[None]:
    """On SQLite, wait until the earlier writers of this process have finished.

    SQLite itself lets one writer in at a time, and the others try again in no order. Under load, a
    writer could wait for many seconds.
    """
    queue: asyncio.Lock | None = engine.get_execution_options().get("write_queue")
    if queue is None or not writes:
        yield
        return
    async with asyncio.timeout(SQLITE_BUSY_SECONDS):
        await queue.acquire()
    try:
        yield
    finally:
        queue.release()


def _is_fault(error: Exception) -> bool:
    """Return True if the database responded that the statement or its values are wrong."""
    if isinstance(error, IntegrityError | ProgrammingError | DataError):
        return True
    cause = getattr(error, "orig", None)
    if state := getattr(cause, "sqlstate", None):  # PostgreSQL's error class
        return str(state)[:2] in ("22", "23", "42")
    return isinstance(error, OperationalError) and "no such" in str(cause)  # SQLite's


def insert_on_conflict(connection: AsyncConnection, table: Table) -> Any:
    """Return an INSERT that can get an ON CONFLICT clause. SQLAlchemy has one per database."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
