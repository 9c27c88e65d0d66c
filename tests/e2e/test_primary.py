"""The store uses the PostgreSQL server that accepts writes."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from smart_accounts.errors import Unavailable
from smart_accounts.store import database
from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore
from tests.support.postgres import Postgres
from tests.support.store import QueryDatabase


@pytest.fixture
async def url(postgres: Postgres) -> str:
    url = postgres.new_database()
    await migrate(url)
    return url


async def write(store: AccountStore) -> None:
    await store.partners.keep_company("issuer", "subject", "Partner Ltd")


async def test_connection_that_can_no_longer_write_is_replaced(url: str) -> None:
    async with AccountStore.open(url) as store:
        async with store.engine.connect() as connection:
            read_only = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
            await connection.execute(text(read_only))
            await connection.commit()
        await write(store)
        assert await store.partners.company_of("issuer", "subject") == "Partner Ltd"


async def test_database_that_can_only_be_read_is_not_ready(
    url: str, postgres: Postgres, query_database: QueryDatabase
) -> None:
    other, name = postgres.new_database(), url.rpartition("/")[2]
    await query_database(other, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with AccountStore.open(url) as store:
        with pytest.raises(Unavailable):
            await store.ping()
        with pytest.raises(Unavailable):
            await write(store)
        await query_database(other, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await store.ping()
        await write(store)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The port of a server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_server_that_does_not_respond_leaves_time_for_the_others(
    url: str, postgres: Postgres, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = url.rpartition("/")[2]
    hosts = f"host=127.0.0.1:{silent_port}&host=127.0.0.1:{postgres.port}"
    url = f"postgresql+asyncpg://postgres@/{name}?{hosts}"
    monkeypatch.setattr(database, "CONNECT_SECONDS", 100)
    async with AccountStore.open(url) as store:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):  # as /readyz does
                await store.ping()
        async with asyncio.timeout(40):
            await store.ping()
    monkeypatch.setattr(database, "CONNECT_SECONDS", 3)
    async with AccountStore.open(url) as store, asyncio.timeout(40):
        await store.ping()
