"""A session is a cookie: which ones count, for how long, and which forms belong to it."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from itsdangerous.encoding import base64_encode

from smart_accounts.web.auth import cookies
from smart_accounts.web.dependencies import OpenSession, SessionForm, SignedIn
from tests.support.keys import KEY

NEW_KEY = "another-key-for-tests-that-is-long-enough-too"


def with_pages(site: Any) -> None:
    """Pages as others build them on ``partner``."""

    async def whoami(partner: SignedIn, session: OpenSession) -> dict[str, str]:
        return {"name": partner.name, "csrf": session.csrf}

    async def act(partner: SignedIn, _: SessionForm) -> dict[str, str]:
        return {"done for": partner.name}

    site.app.add_api_route("/whoami", whoami, methods=["GET", "HEAD", "PUT"])
    site.app.add_api_route("/act", act, methods=["POST"])


@pytest.fixture
async def visitor(visit: Any) -> Any:
    visitor = await visit()
    with_pages(visitor.site)
    return visitor


async def is_signed_in(visitor: Any) -> bool:
    answer = await visitor.http.get("/whoami")
    assert answer.status_code in (200, 303)
    return bool(answer.status_code == 200)


async def test_a_partner_is_known_on_the_next_page(visitor: Any) -> None:
    await visitor.signs_in()
    assert (await visitor.http.get("/whoami")).json()["name"] == "Pat Lee"
    assert (await visitor.http.head("/whoami")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_is_not_signed_in_is_led_there_and_back(visitor: Any, method: str) -> None:
    sent = await visitor.http.request(method, "/whoami?a=b%2Fc&d=é")
    assert sent.status_code == 303
    sent = await visitor.http.get(sent.headers["location"])
    visitor.provider.asked = dict(sent.next_request.url.params)
    back = await visitor.comes_back(code="good", state=visitor.provider.asked["state"])
    assert back.headers["location"] == "/whoami?a=b%2Fc&d=%C3%A9"


async def test_nothing_opens_before_the_company_is_known(visitor: Any) -> None:
    visitor.site.sign_in(company="")
    sent = await visitor.http.get("/whoami?a=b")
    assert sent.headers["location"] == "/sign-in/company?next=%2Fwhoami%3Fa%3Db"
    form = {"csrf": visitor.session.csrf}
    assert (await visitor.http.post("/act", data=form)).status_code == 401
    assert "Sign out" in (await visitor.http.get(sent.headers["location"])).text


async def test_a_form_without_a_session_is_told_so(visitor: Any) -> None:
    answer = await visitor.http.post("/act", data={"csrf": ""})
    assert answer.status_code == 401
    assert "You are no longer signed in" in answer.text
    assert "set-cookie" not in answer.headers
    assert (await visitor.http.put("/whoami")).status_code == 401


# ---- cookies that do not count -------------------------------------------------------------


def tampered(value: str) -> list[str]:
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


async def test_a_tampered_cookie_is_nobody(visitor: Any) -> None:
    await visitor.signs_in()
    genuine = visitor.http.cookies["session"]
    for value in tampered(genuine):
        header = {"Cookie": f"session={value}".encode()}
        visitor.http.cookies.clear()
        answer = await visitor.http.get("/whoami", headers=header)
        assert answer.status_code == 303, value
    assert (await visitor.http.get("/", headers=header)).status_code == 200


async def test_a_cookie_of_another_service_is_nobody(visitor: Any, visit: Any) -> None:
    others = [
        await visit(secret_keys=NEW_KEY),
        await visit(oidc_issuer=visitor.provider.url + "/other"),
    ]
    for other in others:
        other.site.sign_in()
        visitor.keeps(other.http.cookies["session"])
        assert not await is_signed_in(visitor)
    visitor.site.sign_in()
    assert await is_signed_in(visitor)


async def test_a_cookie_of_a_release_with_other_fields_is_nobody(visitor: Any) -> None:
    signer = visitor.site.app.state.services.sessions._cookies._signer("session")
    content = {"partner": {"subject": "pat", "role": "x"}, "csrf": "c", "until": 4e9}
    visitor.keeps(signer.dumps(content))
    assert not await is_signed_in(visitor)


async def test_sessions_outlive_the_rotation_of_a_key_but_not_its_end(
    visitor: Any, visit: Any
) -> None:
    visitor.site.sign_in()
    cookie = visitor.http.cookies["session"]
    for keys, counts in [
        (f"{NEW_KEY},{KEY}", True),
        (f"{KEY},{NEW_KEY}", True),
        (NEW_KEY, False),
    ]:
        other = await visit(secret_keys=keys)
        with_pages(other.site)
        other.keeps(cookie)
        assert await is_signed_in(other) is counts
    # The newest key signs.
    other = await visit(secret_keys=f"{NEW_KEY},{KEY}")
    other.site.sign_in()
    visitor.keeps(other.http.cookies["session"])
    assert not await is_signed_in(visitor)


async def test_a_session_ends_after_eight_hours_whatever_is_done_meanwhile(
    visitor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = datetime.now(UTC)
    await visitor.signs_in()
    cookie = visitor.http.cookies["session"]
    for hours, counts in [(4, True), (7.99, True), (8.01, False), (24 * 365, False)]:
        at = began + timedelta(hours=hours)
        monkeypatch.setattr(cookies, "datetime", SimpleNamespace(now=lambda _, at=at: at))
        visitor.keeps(cookie)  # a browser that keeps it for ever
        answer = await visitor.http.get("/whoami")
        assert (answer.status_code == 200) is counts
        assert "set-cookie" not in answer.headers


# ---- forms ---------------------------------------------------------------------------------


async def test_a_form_with_the_sessions_token_is_taken(visitor: Any) -> None:
    await visitor.signs_in()
    csrf = (await visitor.http.get("/whoami")).json()["csrf"]
    for headers in [{}, {"Origin": visitor.site.url}, {"Referer": f"{visitor.site.url}/x"}]:
        answer = await visitor.http.post("/act", data={"csrf": csrf}, headers=headers)
        assert answer.json() == {"done for": "Pat Lee"}


@pytest.mark.parametrize("form", [{}, {"csrf": ""}, {"csrf": "x"}, {"csrf": "é\ud800"}])
async def test_a_form_without_the_sessions_token_is_not_taken(
    visitor: Any, form: dict[str, str]
) -> None:
    await visitor.signs_in()
    answer = await visitor.http.post(
        "/act",
        content="&".join(f"{n}={v}" for n, v in form.items()).encode("utf-8", "surrogatepass"),
    )
    assert answer.status_code == 403
    assert "came from another website" in answer.text


async def test_the_token_of_another_session_is_not_taken(visitor: Any, visit: Any) -> None:
    other = await visit()
    await other.signs_in()
    await visitor.signs_in()
    answer = await visitor.http.post("/act", data={"csrf": other.session.csrf})
    assert answer.status_code == 403


@pytest.mark.parametrize("name", ["Origin", "Referer"])
@pytest.mark.parametrize("value", ["https://evil.example", "null", "http://127.0.0.1:1/x"])
async def test_a_form_from_elsewhere_is_not_taken_even_with_the_token(
    visitor: Any, name: str, value: str
) -> None:
    await visitor.signs_in()
    form = {"csrf": visitor.session.csrf}
    answer = await visitor.http.post("/act", data=form, headers={name: value})
    assert answer.status_code == 403


# ---- the pages' header ---------------------------------------------------------------------


async def test_the_header_shows_who_is_signed_in_and_the_way_out(visitor: Any) -> None:
    visitor.provider.person["name"] = "Pat O'Lee & Söhne"
    before = (await visitor.http.get("/")).text
    assert "Sign out" not in before
    assert 'href="/sign-in"' in before
    await visitor.signs_in()
    after = (await visitor.http.get("/")).text
    assert "Pat O&#39;Lee &amp; Söhne" in after
    assert f'name="csrf" value="{visitor.session.csrf}"' in after
    for part in ('action="/sign-out"', 'href="/requests/new"', 'href="/requests"'):
        assert part in after
    assert 'href="/sign-in"' not in after


async def test_the_customers_page_knows_no_session(visitor: Any) -> None:
    token = await visitor.site.issue()
    before = await visitor.http.get(f"/activate/{token}")
    await visitor.signs_in()
    after = await visitor.http.get(f"/activate/{token}")
    assert after.text == before.text
    assert "Sign out" not in after.text
    assert "set-cookie" not in after.headers
    assert (await visitor.http.get("/activate/no")).text.count("Pat Lee") == 0
