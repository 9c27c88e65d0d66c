"""Sessions on SQLite and PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from smart_accounts.store import tables
from smart_accounts.store.migrate import migrate
from smart_accounts.store.sessions import EXPIRED_KEPT, LIFETIME, PURGED_AT_ONCE, Partner
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from tests.support.fake_temporal import FakeTemporal
from tests.support.keys import KEY
from tests.support.page_content import hidden_fields
from tests.support.partners import ISSUER, OPERATOR, PAT, session_cookie
from tests.support.web_settings import web_settings


def browser(app: FastAPI, cookie: tuple[str, str]) -> httpx.AsyncClient:
    http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", timeout=60
    )
    http.cookies.set(*cookie, domain="127.0.0.1")
    return http


async def test_sessions_begin_and_end_at_once(any_database_url: str) -> None:
    await migrate(any_database_url)
    settings = web_settings("http://127.0.0.1", oidc_issuer=ISSUER)
    async with AccountStore.open(any_database_url) as store:
        app = create_app(store, FakeTemporal(), LinkTokens([KEY]), settings)
        old = [await session_cookie(app, PAT) for _ in range(3 * PURGED_AT_ONCE)]
        async with store.engine.begin() as connection:
            long_ago = datetime.now(UTC) - LIFETIME - EXPIRED_KEPT - timedelta(hours=1)
            await connection.execute(update(tables.sessions).values(began_at=long_ago))
        # Each removes expired sessions.
        new = await asyncio.gather(*(session_cookie(app, PAT) for _ in range(4)))
        operator = await session_cookie(app, OPERATOR)
        async with browser(app, old[0]) as http:
            assert (await http.get("/sessions")).status_code == 303
        async with browser(app, new[0]) as pat, browser(app, operator) as oda:
            page = await pat.get("/sessions")
            assert page.text.count("Sign out</button>") == 4  # in the header, and three others
            person = f"/sessions?email={PAT.email.upper()}"
            page = await oda.get(person)
            assert page.text.count("Sign out</button>") == 5
            form = hidden_fields(page)
            for strange in ("%00", "x", "0" * 64, "%F0%9F%98%80"):
                assert (await oda.post(f"/sessions/{strange}/end", data=form)).status_code == 404
            nul = form | {"email": "a\0b\ud800".encode("utf-8", "surrogatepass").decode("latin-1")}
            assert (await oda.get("/sessions", params={"email": nul["email"]})).status_code == 200
            assert (await oda.post(f"/sessions/{'0' * 64}/end", data=nul)).status_code == 404
            ended = await store.sessions.end_of_email(ISSUER, PAT.email.upper())
            assert ended == [PAT.identity] * 4
            assert (await pat.get("/sessions")).status_code == 303
            assert (await oda.get("/sessions")).status_code == 200


@pytest.mark.parametrize(
    "other",
    [replace(PAT, subject="another"), replace(PAT, issuer="https://another.example")],
    ids=["subject", "issuer"],
)
async def test_sessions_of_others_stay(any_database_url: str, other: Partner) -> None:
    await migrate(any_database_url)
    settings = web_settings("http://127.0.0.1", oidc_issuer=ISSUER)
    async with AccountStore.open(any_database_url) as store:
        app = create_app(store, FakeTemporal(), LinkTokens([KEY]), settings)
        await session_cookie(app, PAT)
        await session_cookie(app, other)
        assert await store.sessions.end_of_person(PAT) == 1
        assert len(await store.sessions.of_person(other)) == 1
