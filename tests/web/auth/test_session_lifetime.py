"""How long sessions last, what they cost, and what happens while the database is down."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from smart_accounts.errors import Unavailable
from tests.support.identity_provider import Visitor


async def is_signed_in(visitor: Visitor) -> bool:
    response = await visitor.http.get("/requests")
    assert response.status_code in (200, 303)
    return response.status_code == 200


async def raise_unavailable(*_: object) -> None:
    raise Unavailable("no")


async def test_session_ends_after_eight_hours_even_if_used(visitor: Visitor) -> None:
    await visitor.sign_in()
    for hours, is_valid in [(4, True), (7.99, True), (8.01, False)]:
        await visitor.change_session(began_at=datetime.now(UTC) - timedelta(hours=hours))
        response = await visitor.http.get("/requests")
        assert (response.status_code == 200) is is_valid
        assert "set-cookie" not in response.headers


async def test_session_ends_after_an_hour_without_use(visitor: Visitor) -> None:
    await visitor.sign_in()
    for minutes, is_valid in [(59, True), (61, False)]:
        await visitor.change_session(last_used_at=datetime.now(UTC) - timedelta(minutes=minutes))
        assert await is_signed_in(visitor) is is_valid


@pytest.mark.parametrize(
    ("minutes", "accept", "is_noted"),
    [(4, "*/*", False), (6, "*/*", True), (6, "text/event-stream", False)],
)
async def test_last_use_is_noted_every_five_minutes(
    visitor: Visitor, minutes: int, accept: str, is_noted: bool
) -> None:
    await visitor.sign_in()
    issuer, session_id = visitor.provider.url, (await visitor.open_session()).id
    last_used_at = datetime.now(UTC) - timedelta(minutes=minutes)
    await visitor.change_session(last_used_at=last_used_at)
    assert (await visitor.http.get("/requests", headers={"Accept": accept})).status_code == 200
    session = await visitor.site.store.sessions.find(session_id, issuer)
    assert session
    assert (session.last_used_at > last_used_at) is is_noted


async def test_use_is_not_noted_in_a_database_that_can_only_be_read(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await visitor.sign_in()
    await visitor.change_session(last_used_at=datetime.now(UTC) - timedelta(minutes=6))
    monkeypatch.setattr(visitor.site.store.sessions, "note_use", raise_unavailable)
    assert await is_signed_in(visitor)


async def test_expired_sessions_are_removed(visitor: Visitor) -> None:
    await visitor.sign_in()
    old = (await visitor.open_session()).id
    await visitor.change_session(began_at=datetime.now(UTC) - timedelta(hours=33))
    visitor.http.cookies.clear()
    await visitor.sign_in()
    assert old not in repr(await visitor.site.all_rows())


async def test_page_costs_two_indexed_queries(visitor: Visitor) -> None:
    statements: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        statements.append((statement, parameters))

    await visitor.sign_in()
    engine = visitor.site.store.engine
    event.listen(engine.sync_engine, "before_cursor_execute", note)
    assert (
        (await visitor.http.get("/requests/new")).headers["location"].startswith("/requests/new?")
    )
    event.remove(engine.sync_engine, "before_cursor_execute", note)
    queries = [each for each in statements if not each[0].startswith("BEGIN")]
    plans = []
    async with engine.connect() as connection:
        for query, parameters in queries:
            plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", parameters)
            plans.append(" ".join(row.detail for row in plan))
    session, adoption = plans
    assert session == "SEARCH sessions USING INDEX sqlite_autoindex_sessions_1 (id=?)"
    assert "SEARCH requests USING INDEX ix_requests_without_owner" in adoption
    assert "SCAN requests" not in adoption


async def test_database_outage_asks_nobody_to_sign_in_again(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await visitor.sign_in()
    csrf = (await visitor.open_session()).csrf
    monkeypatch.setattr(visitor.site.store.sessions, "find", raise_unavailable)
    for path in ("/requests/new", "/requests", "/sessions"):
        page = await visitor.http.get(path)
        assert (page.status_code, page.headers["retry-after"]) == (503, "10")
    form = {"csrf": csrf, "note": "A long text"}
    for path in ("/requests/review", "/sign-out"):
        page = await visitor.http.post(path, data=form)
        assert page.status_code == 503
        assert 'name="note" value="A long text"' in page.text  # to be sent again
        assert "refresh" not in page.headers
    start = await visitor.http.get("/")
    assert start.status_code == 200
    assert "/sign-in" not in start.text
    assert (await visitor.http.get("/no-such-page")).status_code == 404
    assert (await visitor.http.get("/healthz")).status_code == 200
