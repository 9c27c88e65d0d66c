"""The page that shows where a person is signed in, and signing out there."""

import httpx
import pytest

from smart_accounts.store.sessions import Session
from smart_accounts.web.auth.session_pages import browser_name
from tests.support.identity_provider import NewVisitor, Visitor

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0"
EDGE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15"
    " (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
)


@pytest.fixture
async def visitor(new_visitor: NewVisitor, request: pytest.FixtureRequest) -> Visitor:
    """A person of whom no other test knows."""
    visitor = await new_visitor()
    name = request.node.name.replace("[", "-").replace("]", "")
    visitor.provider.token_changes |= {"sub": name, "email": f"{name[:60]}@partner.example"}
    return visitor


async def at_another_browser(new_visitor: NewVisitor, **claims: object) -> Visitor:
    """Sign in at another browser, with these changes of the claims."""
    other = await new_visitor()
    before = dict(other.provider.token_changes)
    other.provider.token_changes |= claims
    other.http.headers["User-Agent"] = FIREFOX
    await other.sign_in()
    other.provider.token_changes = before
    return other


async def post(visitor: Visitor, path: str, **form: str) -> httpx.Response:
    csrf = (await visitor.open_session()).csrf
    return await visitor.http.post(path, data={"csrf": csrf} | form)


async def end(visitor: Visitor, session: Session, **form: str) -> httpx.Response:
    return await post(visitor, f"/sessions/{session.id}/end", **form)


async def test_page_shows_where_a_person_is_signed_in(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    visitor.http.headers["User-Agent"] = EDGE
    await visitor.sign_in()
    await at_another_browser(new_visitor)
    stranger = await at_another_browser(new_visitor, sub="a-stranger")
    page = (await visitor.http.get("/sessions")).text
    assert page.count("This browser") == 1
    assert page.count("Edge on Windows") == page.count("Firefox on Linux") == 1
    assert page.count("127.0.0.1</td>") == 2
    assert (await stranger.open_session()).id not in page
    assert "Email of a person" not in page
    assert 'href="/sessions"' in (await visitor.http.get("/")).text


async def test_ending_a_session_elsewhere(visitor: Visitor, new_visitor: NewVisitor) -> None:
    await visitor.sign_in()
    other = await at_another_browser(new_visitor)
    response = await end(visitor, await other.open_session())
    assert (response.status_code, response.headers["location"]) == (303, "/sessions")
    assert await other.session() is None
    assert await visitor.session()


async def test_sign_out_ends_every_copy_of_the_cookie(visitor: Visitor) -> None:
    await visitor.sign_in()
    copied = visitor.http.cookies["session"]
    await post(visitor, "/sign-out")
    visitor.set_session_cookie(copied)
    assert (await visitor.http.get("/requests")).status_code == 303


async def test_signing_out_everywhere(visitor: Visitor, new_visitor: NewVisitor) -> None:
    await visitor.sign_in()
    other = await at_another_browser(new_visitor)
    stranger = await at_another_browser(new_visitor, sub="a-stranger")
    response = await post(visitor, "/sessions/end-all")
    assert "You are signed out" in response.text
    assert "/end_session" in response.headers["refresh"]
    assert "session" not in visitor.http.cookies
    assert await visitor.session() is None
    assert await other.session() is None
    assert await stranger.session()


async def test_session_of_another_person_looks_like_an_unknown_one(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    await visitor.sign_in()
    stranger = await at_another_browser(new_visitor, sub="a-stranger")
    foreign = await end(visitor, await stranger.open_session())
    unknown = await post(visitor, f"/sessions/{'0' * 64}/end")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.text == unknown.text
    email = (await stranger.partner()).email
    await post(visitor, "/sessions/end-all", email=email)
    assert await stranger.session()
    await visitor.sign_in()
    assert (await stranger.open_session()).id not in (
        await visitor.http.get("/sessions", params={"email": email})
    ).text


@pytest.mark.parametrize("path", ["/sessions/end-all", "/sessions/{}/end"])
async def test_form_without_the_csrf_token_ends_nothing(visitor: Visitor, path: str) -> None:
    await visitor.sign_in()
    path = path.format((await visitor.open_session()).id)
    assert (await visitor.http.post(path, data={"csrf": "x"})).status_code == 403
    assert (await visitor.http.get(path)).status_code == 405
    assert await visitor.session()


async def test_operator_ends_the_sessions_of_a_person(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    visitor.provider.token_changes["roles"] = ["smart-accounts-operator"]
    await visitor.sign_in()
    claims = {"sub": "lost-laptop", "email": "Lost.Laptop@partner.example", "roles": []}
    first = await at_another_browser(new_visitor, **claims)
    second = await at_another_browser(new_visitor, **claims)
    assert (
        "Nobody with the address"
        in (await visitor.http.get("/sessions", params={"email": "nobody@partner.example"})).text
    )
    email = "lost.laptop@PARTNER.example"
    page = (await visitor.http.get("/sessions", params={"email": email})).text
    for session in (await first.open_session(), await second.open_session()):
        assert f'action="/sessions/{session.id}/end"' in page
    response = await end(visitor, await first.open_session(), email=email)
    assert response.headers["location"] == "/sessions?email=lost.laptop%40PARTNER.example"
    assert await first.session() is None
    assert await second.session()
    await post(visitor, "/sessions/end-all", email=email)
    assert await second.session() is None
    assert await visitor.session()


async def test_address_and_user_agent_are_short_and_printable(
    visitor: Visitor,
) -> None:
    visitor.http.headers["User-Agent"] = "\x01<b>\x7f" + "x" * 5000
    await visitor.sign_in()
    session = await visitor.open_session()
    assert session.user_agent == "<b> " + "x" * 196
    assert "<b>" not in (await visitor.http.get("/sessions")).text


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (EDGE, "Edge on Windows"),
        (IPHONE, "Safari on iPhone"),
        ("curl/8.0", "curl/8.0"),
        ("", "Unknown"),
    ],
)
def test_name_of_the_browser(user_agent: str, name: str) -> None:
    assert browser_name(user_agent) == name
