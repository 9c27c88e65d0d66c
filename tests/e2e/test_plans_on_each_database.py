"""How SQLite and PostgreSQL run what must not cost more as the store grows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.store.database import transaction
from smart_accounts.store.limits import check_emails
from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore
from tests.support.stored_requests import LIMITS, NOW, open_request

Statement = tuple[str, Any]


@contextmanager
def noted_queries(engine: AsyncEngine) -> Iterator[list[Statement]]:
    noted: list[Statement] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        if statement.startswith("SELECT"):
            noted.append((statement, parameters))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield noted
    event.remove(engine.sync_engine, "before_cursor_execute", note)


async def plan_of(store: AccountStore, query: Statement) -> str:
    """Return the plan of a query as if PostgreSQL's tables were too large to be read whole."""
    statement, parameters = query
    is_postgresql = store.engine.dialect.name == "postgresql"
    explain = "EXPLAIN (COSTS OFF)" if is_postgresql else "EXPLAIN QUERY PLAN"
    async with store.engine.connect() as connection:
        if is_postgresql:
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = await connection.exec_driver_sql(f"{explain} {statement}", parameters)
        return "\n".join(str(row[-1]) for row in plan)


async def test_start_and_email_scan_no_table(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as store:
        await open_request(store, example, "one")
        request = await store.requests.find("one")
        assert request
        with noted_queries(store.engine) as queries:
            started = example | {"account_domain": "two.example"}
            await open_request(store, started, "two")
            async with transaction(store.engine, writes=False) as connection:
                await check_emails(connection, request, "ada@acme.example", NOW, LIMITS)
        plans = [await plan_of(store, query) for query in queries]
    for plan in plans:
        assert not re.search(r"SCAN (requests|emails|accounts)", plan), plan
    facts, emails, full = (
        next(plan for (text, _), plan in zip(queries, plans, strict=True) if text.startswith(start))
        for start in (
            "SELECT (SELECT accounts.activated_at",
            "SELECT emails.request_id",
            "SELECT (SELECT emails.at",
        )
    )
    assert "uq_accounts_open_domain" in facts
    assert "ix_requests_reported" in facts
    if any_database_url.startswith("sqlite"):  # PostgreSQL decides by the number of rows
        for plan in (emails, full):
            assert "emails USING INDEX ix_emails_at (at>?)" in plan
            assert "requests USING INDEX ix_requests_owner" not in plan
        assert "emails USING INDEX ix_emails_mailbox (mailbox=? AND at>?)" in full
