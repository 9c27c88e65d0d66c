"""Session cookies: which are valid, for how long, and which forms belong to a session."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from itsdangerous.encoding import base64_encode
from starlette.responses import Response

from smart_accounts.web.auth import cookies
from smart_accounts.web.auth.cookies import SignedCookies
from smart_accounts.web.dependencies import OpenSession, SessionForm, SignedIn
from tests.support.identity_provider import NewVisitor, Visitor, query_of
from tests.support.keys import KEY
from tests.support.partners import cookie_in
from tests.support.site import Site

NEW_KEY = "another-key-for-tests-that-is-long-enough-too"


def add_pages(site: Site) -> None:
    """Add a page and a form that need a sign-in."""

    async def whoami(partner: SignedIn, session: OpenSession) -> dict[str, str]:
        return {"name": partner.name, "csrf": session.csrf}

    async def act(partner: SignedIn, _: SessionForm) -> dict[str, str]:
        return {"done for": partner.name}

    site.app.add_api_route("/whoami", whoami, methods=["GET", "HEAD", "PUT"])
    site.app.add_api_route("/act", act, methods=["POST"])


@pytest.fixture
async def visitor(new_visitor: NewVisitor) -> Visitor:
    visitor = await new_visitor()
    add_pages(visitor.site)
    return visitor


async def is_signed_in(visitor: Visitor) -> bool:
    response = await visitor.http.get("/whoami")
    assert response.status_code in (200, 303)
    return response.status_code == 200


async def test_session_is_valid_on_the_next_page(visitor: Visitor) -> None:
    await visitor.sign_in()
    assert (await visitor.http.get("/whoami")).json()["name"] == "Pat Lee"
    assert (await visitor.http.head("/whoami")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_page_redirects_to_the_sign_in_and_back(visitor: Visitor, method: str) -> None:
    sent = await visitor.http.request(method, "/whoami?a=b%2Fc&d=é")
    assert sent.status_code == 303
    sent = await visitor.http.get(sent.headers["location"])
    visitor.provider.authorization_query = query_of(sent.headers["location"])
    back = await visitor.open_callback(
        code="good", state=visitor.provider.authorization_query["state"]
    )
    assert back.headers["location"] == "/whoami?a=b%2Fc&d=%C3%A9"


async def test_pages_need_a_company(visitor: Visitor) -> None:
    visitor.site.start_session(company="")
    sent = await visitor.http.get("/whoami?a=b")
    assert sent.headers["location"] == "/sign-in/company?next=%2Fwhoami%3Fa%3Db"
    form = {"csrf": visitor.open_session.csrf}
    assert (await visitor.http.post("/act", data=form)).status_code == 401
    assert "Sign out" in (await visitor.http.get(sent.headers["location"])).text


async def test_form_without_a_session_is_rejected(visitor: Visitor) -> None:
    response = await visitor.http.post("/act", data={"csrf": ""})
    assert response.status_code == 401
    assert "You are no longer signed in" in response.text
    assert "set-cookie" not in response.headers
    assert (await visitor.http.put("/whoami")).status_code == 401


def tampered_values(value: str) -> list[str]:
    content, _, signature = value.rpartition(".")
    forged = base64_encode(json.dumps({"partner": {"subject": "x"}, "until": 4e9})).decode()
    return [
        *(value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :] for at in (1, 50, -5)),
        f"{forged}.{signature}",
        forged,
        f"{forged}.",
        content,
        value + "A",
        "",
        ".",
        "é",
        "x" * 4000,
        "W10.",
    ]


async def test_tampered_cookie_is_invalid(visitor: Visitor) -> None:
    await visitor.sign_in()
    genuine = visitor.http.cookies["session"]
    for value in tampered_values(genuine):
        header = {b"Cookie": f"session={value}".encode()}
        visitor.http.cookies.clear()
        response = await visitor.http.get("/whoami", headers=header)
        assert response.status_code == 303, value
    assert (await visitor.http.get("/", headers=header)).status_code == 200


async def test_cookie_of_another_service_is_invalid(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    others = [
        await new_visitor(secret_keys=NEW_KEY),
        await new_visitor(oidc_issuer=visitor.provider.url + "/other"),
    ]
    for other in others:
        other.site.start_session()
        visitor.set_session_cookie(other.http.cookies["session"])
        assert not await is_signed_in(visitor)
    visitor.site.start_session()
    assert await is_signed_in(visitor)


async def test_cookie_with_other_fields_is_invalid(visitor: Visitor) -> None:
    settings = visitor.site.services.settings
    signed = SignedCookies(settings.signing_keys, settings.base_url, settings.oidc_issuer)
    content = {"partner": {"subject": "pat", "role": "x"}, "csrf": "c"}
    response = Response()
    signed.set(response, "session", content, datetime.now(UTC) + timedelta(hours=1))
    visitor.set_session_cookie(cookie_in(response)[1])
    assert not await is_signed_in(visitor)


async def test_session_stays_valid_until_its_key_is_removed(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    visitor.site.start_session()
    cookie = visitor.http.cookies["session"]
    for keys, is_valid in [
        (f"{NEW_KEY},{KEY}", True),
        (f"{KEY},{NEW_KEY}", True),
        (NEW_KEY, False),
    ]:
        other = await new_visitor(secret_keys=keys)
        add_pages(other.site)
        other.set_session_cookie(cookie)
        assert await is_signed_in(other) is is_valid
    # The newest key signs, which this site does not have.
    other = await new_visitor(secret_keys=f"{NEW_KEY},{KEY}")
    other.site.start_session()
    visitor.set_session_cookie(other.http.cookies["session"])
    assert not await is_signed_in(visitor)


async def test_session_ends_after_eight_hours_even_if_used(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime.now(UTC)
    await visitor.sign_in()
    cookie = visitor.http.cookies["session"]
    for hours, is_valid in [(4, True), (7.99, True), (8.01, False), (24 * 365, False)]:
        at = began + timedelta(hours=hours)
        monkeypatch.setattr(cookies, "datetime", SimpleNamespace(now=lambda _, at=at: at))
        visitor.set_session_cookie(cookie)  # as in a browser that never deletes it
        response = await visitor.http.get("/whoami")
        assert (response.status_code == 200) is is_valid
        assert "set-cookie" not in response.headers


async def test_form_with_the_csrf_token_is_accepted(visitor: Visitor) -> None:
    await visitor.sign_in()
    csrf = (await visitor.http.get("/whoami")).json()["csrf"]
    for headers in [{}, {"Origin": visitor.site.url}, {"Referer": f"{visitor.site.url}/x"}]:
        response = await visitor.http.post("/act", data={"csrf": csrf}, headers=headers)
        assert response.json() == {"done for": "Pat Lee"}


@pytest.mark.parametrize("form", [{}, {"csrf": ""}, {"csrf": "x"}, {"csrf": "é\ud800"}])
async def test_form_without_the_csrf_token_is_rejected(
    visitor: Visitor, form: dict[str, str]
) -> None:
    await visitor.sign_in()
    body = "&".join(f"{name}={value}" for name, value in form.items())
    response = await visitor.http.post("/act", content=body.encode("utf-8", "surrogatepass"))
    assert response.status_code == 403
    assert "came from another website" in response.text


async def test_csrf_token_of_another_session_is_rejected(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    other = await new_visitor()
    await other.sign_in()
    await visitor.sign_in()
    response = await visitor.http.post("/act", data={"csrf": other.open_session.csrf})
    assert response.status_code == 403


@pytest.mark.parametrize("name", ["Origin", "Referer"])
@pytest.mark.parametrize("value", ["https://evil.example", "null", "http://127.0.0.1:1/x"])
async def test_form_from_another_site_is_rejected(visitor: Visitor, name: str, value: str) -> None:
    await visitor.sign_in()
    form = {"csrf": visitor.open_session.csrf}
    response = await visitor.http.post("/act", data=form, headers={name: value})
    assert response.status_code == 403


async def test_header_shows_the_partner_and_the_sign_out(visitor: Visitor) -> None:
    visitor.provider.person["name"] = "Pat O'Lee & Söhne"
    before = (await visitor.http.get("/")).text
    assert "Sign out" not in before
    assert 'href="/sign-in"' in before
    await visitor.sign_in()
    after = (await visitor.http.get("/")).text
    assert "Pat O&#39;Lee &amp; Söhne" in after
    assert f'name="csrf" value="{visitor.open_session.csrf}"' in after
    for part in ('action="/sign-out"', 'href="/requests/new"', 'href="/requests"'):
        assert part in after
    assert 'href="/sign-in"' not in after


async def test_activation_page_ignores_the_session(visitor: Visitor) -> None:
    token = await visitor.site.add_request()
    before = await visitor.http.get(f"/activate/{token}")
    await visitor.sign_in()
    after = await visitor.http.get(f"/activate/{token}")
    assert after.text == before.text
    assert "Sign out" not in after.text
    assert "set-cookie" not in after.headers
    assert (await visitor.http.get("/activate/no")).text.count("Pat Lee") == 0
