"""Forms that are sent after the session has ended: nothing is lost, and nobody plants text."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import select, update

from smart_accounts.errors import Unavailable
from smart_accounts.store import tables
from tests.support.identity_provider import NewVisitor, Visitor
from tests.support.page_content import hidden_fields, visible_text

FORM = {"account_name": "Acme", "customer_email": "ada@acme.example", "form_id": "one"}
HOURS, MINUTES = timedelta(hours=8, minutes=1), timedelta(minutes=61)
REVIEW = "/requests/review"


@pytest.fixture
async def visitor(new_visitor: NewVisitor, request: pytest.FixtureRequest) -> Visitor:
    """A signed-in person whom no other test uses."""
    visitor = await new_visitor()
    name = re.sub(r"\W", "-", request.node.name)
    visitor.provider.token_changes |= {"sub": name, "email": f"{name[:60]}@partner.example"}
    await visitor.sign_in()
    return visitor


async def csrf_token(visitor: Visitor) -> str:
    return (await visitor.open_session()).csrf


async def expire(visitor: Visitor, **ages: timedelta) -> None:
    """Change when the visitor's session began and was last used."""
    await visitor.change_session(**{name: datetime.now(UTC) - age for name, age in ages.items()})


async def kept_drafts(visitor: Visitor) -> list[Any]:
    drafts = tables.drafts.c
    is_own = drafts.subject == visitor.provider.token_changes["sub"]
    async with visitor.site.store.engine.connect() as connection:
        return list((await connection.execute(select(drafts.fields).where(is_own))).scalars())


async def sign_in_again(visitor: Visitor, page: httpx.Response) -> httpx.Response:
    """Follow the link of the page. Return the page to which the sign-in leads."""
    [link] = re.findall(r'href="(/sign-in[^"]*)"', page.text)
    [path] = parse_qs(urlsplit(unescape(link)).query)["next"]
    back = await visitor.sign_in(path)
    assert back.headers["location"] == path
    return await visitor.http.get(path)


@pytest.mark.parametrize("ages", [{"began_at": HOURS}, {"last_used_at": MINUTES}])
@pytest.mark.parametrize("path", [REVIEW, "/requests/new", "/requests"])
async def test_form_is_shown_again_after_the_next_sign_in(
    visitor: Visitor, path: str, ages: dict[str, timedelta], new_visitor: NewVisitor
) -> None:
    form = FORM | {"csrf": await csrf_token(visitor), "note_to_customer": "A long text."}
    await expire(visitor, **ages)
    await (await new_visitor()).sign_in()  # which removes old sessions
    late = await visitor.http.post(path, data=form)
    assert late.status_code == 401
    assert "What you typed is kept for 24 hours" in visible_text(late)
    assert "A long text." not in late.text
    page = await sign_in_again(visitor, late)
    assert "You have signed in again" in visible_text(page)
    assert "A long text." in page.text
    assert not visitor.site.temporal.running
    again = {name: form[name] for name in FORM} | hidden_fields(page)
    assert (await visitor.http.post("/requests", data=again)).status_code == 303
    assert len(visitor.site.temporal.running) == 1


async def test_another_person_does_not_see_the_form(visitor: Visitor) -> None:
    form = FORM | {"csrf": await csrf_token(visitor)}
    await expire(visitor, began_at=HOURS)
    late = await visitor.http.post(REVIEW, data=form)
    visitor.provider.token_changes["sub"] += "-another"
    page = await sign_in_again(visitor, late)
    assert page.status_code == 200
    assert "Acme" not in page.text
    assert (await visitor.http.get(f"{REVIEW}/one")).status_code == 404


@pytest.mark.parametrize(
    "attack",
    ["no cookie", "forged cookie", "csrf", "origin", "referer", "issuer", "ended", "foreign form"],
)
async def test_nobody_plants_text_for_a_partner(visitor: Visitor, attack: str) -> None:
    """Nothing is stored without the cookie and the CSRF token of one session, or cross-site."""
    form = FORM | {"csrf": await csrf_token(visitor)}
    headers: dict[str, str] = {}
    session_id = (await visitor.open_session()).id
    await expire(visitor, began_at=HOURS)
    match attack:
        case "no cookie":
            visitor.http.cookies.clear()
        case "forged cookie":
            visitor.set_session_cookie(session_id)
        case "csrf":
            form["csrf"] = "guessed"
        case "origin" | "referer":
            headers = {attack: "https://evil.example"}
        case "issuer":
            async with visitor.site.store.engine.begin() as connection:
                sessions = tables.sessions
                is_this = sessions.c.id == session_id
                await connection.execute(update(sessions).where(is_this).values(issuer="other"))
        case "ended":
            await visitor.site.store.sessions.end(session_id)
    path = "/sign-out" if attack == "foreign form" else REVIEW
    response = await visitor.http.post(path, data=form, headers=headers)
    assert response.status_code == 401
    assert await kept_drafts(visitor) == []
    is_foreign = attack in ("origin", "referer")
    assert ("ada@acme.example" in response.text) is not is_foreign
    assert "set-cookie" not in response.headers


async def test_expired_session_lets_nobody_in(visitor: Visitor) -> None:
    form = FORM | {"csrf": await csrf_token(visitor)}
    await expire(visitor, last_used_at=MINUTES)
    for path in ("/requests", "/sign-out", "/requests/smart-account-acme.example/withdraw"):
        assert (await visitor.http.post(path, data=form)).status_code == 401
    for path in ("/requests", f"{REVIEW}/one", "/requests/new?draft=one"):
        assert (await visitor.http.get(path)).headers["location"].startswith("/sign-in?")
    assert await visitor.session() is None
    assert not visitor.site.temporal.running


@pytest.mark.parametrize("cause", ["signed out", "outage", "another form"])
async def test_page_keeps_what_was_typed(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    """If the form cannot be stored, the person signs in in another tab and continues."""

    async def raise_unavailable(*_: object) -> None:
        raise Unavailable("no")

    form = FORM | {"csrf": await csrf_token(visitor), "reason": "A long reason."}
    path = REVIEW
    await expire(visitor, began_at=HOURS)
    with monkeypatch.context() as outage:
        if cause == "outage":
            outage.setattr(visitor.site.store.drafts, "save", raise_unavailable)
        elif cause == "signed out":
            visitor.http.cookies.clear()
        else:
            path = "/requests/smart-account-acme.example/withdraw"
        for _ in range(2):  # also if the person continues before signing in
            late = await visitor.http.post(path, data=form)
            assert late.status_code == 401
            assert f'action="{path}"' in late.text
            form = hidden_fields(late)
            assert form == FORM | {"reason": "A long reason."}
    await visitor.sign_in()
    if path == REVIEW:
        headers = {"Origin": visitor.site.url}
        shown = await visitor.http.post(path, data=form, headers=headers)
        page = await visitor.http.get(shown.headers["location"])
        assert 'value="ada@acme.example"' in page.text
    assert not visitor.site.temporal.running


async def test_page_without_text_asks_for_a_sign_in_only(visitor: Visitor) -> None:
    visitor.http.cookies.clear()
    response = await visitor.http.post("/sign-out", data={"csrf": "x"})
    assert "What you typed" not in response.text
    assert hidden_fields(response) == {}


async def test_expired_sessions_are_kept_for_a_day_and_not_longer(visitor: Visitor) -> None:
    form = FORM | {"csrf": await csrf_token(visitor)}
    await expire(visitor, began_at=timedelta(hours=33))
    cookie = visitor.http.cookies["session"]
    visitor.http.cookies.clear()
    await visitor.sign_in()  # removes old sessions
    visitor.set_session_cookie(cookie)
    await visitor.http.post(REVIEW, data=form)
    assert await kept_drafts(visitor) == []
