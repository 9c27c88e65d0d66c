"""An account store in an SQLite file, and SQL on any database."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from smart_accounts.store.database import create_engine, transaction
from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore

Rows = list[dict[str, Any]]
Query = Callable[[str], Awaitable[Rows]]
"""Runs one SQL statement and returns its rows."""
QueryDatabase = Callable[[str, str], Awaitable[Rows]]
"""Runs one SQL statement on the database with this URL and returns its rows."""


@pytest.fixture(scope="session")
async def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite file to copy, because a migration takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    await migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture
def database_url(migrated_database: Path, tmp_path: Path) -> str:
    shutil.copy(migrated_database, tmp_path / "store.db")
    return f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[AccountStore]:
    async with AccountStore.open(database_url) as opened:
        yield opened


async def _query(url: str, statement: str) -> Rows:
    engine = create_engine(url)
    try:
        async with transaction(engine, writes=True) as connection:
            result = await connection.execute(text(statement))
            return [dict(row._mapping) for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()


@pytest.fixture
def query_database() -> QueryDatabase:
    return _query


@pytest.fixture
def query_store(database_url: str) -> Query:
    """Query the database of the fixture ``store`` directly."""
    return lambda statement: _query(database_url, statement)
