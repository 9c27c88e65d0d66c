"""Sessions: which are valid, for how long, and which forms belong to a session."""

import pytest

from smart_accounts.web.dependencies import OpenSession, SessionForm, SignedIn
from tests.support.identity_provider import NewVisitor, Visitor, query_of
from tests.support.keys import KEY
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
    await visitor.site.start_session(company="")
    sent = await visitor.http.get("/whoami?a=b")
    assert sent.headers["location"] == "/sign-in/company?next=%2Fwhoami%3Fa%3Db"
    form = {"csrf": (await visitor.open_session()).csrf}
    assert (await visitor.http.post("/act", data=form)).status_code == 401
    assert "Sign out" in (await visitor.http.get(sent.headers["location"])).text


async def test_form_without_a_session_is_rejected(visitor: Visitor) -> None:
    response = await visitor.http.post("/act", data={"csrf": ""})
    assert response.status_code == 401
    assert "You are no longer signed in" in response.text
    assert "set-cookie" not in response.headers
    assert (await visitor.http.put("/whoami")).status_code == 401


@pytest.mark.parametrize("value", ["", ".", "é", "x" * 4000, "W10.", "%00", "' OR 1=1 --"])
async def test_unknown_cookie_is_invalid(visitor: Visitor, value: str) -> None:
    header = {b"Cookie": f"session={value}".encode()}
    assert (await visitor.http.get("/whoami", headers=header)).status_code == 303
    assert (await visitor.http.get("/", headers=header)).status_code == 200


async def test_id_of_a_session_is_no_cookie(visitor: Visitor) -> None:
    """The id is shown on a page and in paths, and whoever reads the database knows it."""
    await visitor.sign_in()
    secret, session = visitor.http.cookies["session"], await visitor.open_session()
    rows = await visitor.site.all_rows()
    assert secret not in repr(rows)
    assert session.id in repr(rows)
    visitor.set_session_cookie(session.id)
    assert not await is_signed_in(visitor)


async def test_session_of_another_issuer_is_invalid(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    other = await new_visitor(oidc_issuer=visitor.provider.url + "/other")
    await other.site.start_session()
    visitor.set_session_cookie(other.http.cookies["session"])
    assert not await is_signed_in(visitor)
    await visitor.site.start_session()
    assert await is_signed_in(visitor)


async def test_session_needs_no_key(visitor: Visitor, new_visitor: NewVisitor) -> None:
    await visitor.sign_in()
    other = await new_visitor(secret_keys=NEW_KEY)
    add_pages(other.site)
    other.set_session_cookie(visitor.http.cookies["session"])
    assert await is_signed_in(other)


@pytest.mark.parametrize(
    ("settings", "is_valid"),
    [
        ({"secret_keys": KEY}, True),
        ({"secret_keys": NEW_KEY}, False),
        ({"secret_keys": f"{NEW_KEY},{KEY}"}, True),
        ({"secret_keys": KEY, "session_keys": NEW_KEY}, False),
        ({"secret_keys": NEW_KEY, "session_keys": f"{NEW_KEY},{KEY}"}, True),
    ],
)
async def test_keys_sign_the_attempts(
    visitor: Visitor, new_visitor: NewVisitor, settings: dict[str, str], is_valid: bool
) -> None:
    back = await visitor.start_sign_in()
    other = await new_visitor(**settings)
    other.http.cookies = visitor.http.cookies
    response = await other.open_callback(**back)
    assert (response.status_code == 303) is is_valid


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
    response = await visitor.http.post("/act", data={"csrf": (await other.open_session()).csrf})
    assert response.status_code == 403


@pytest.mark.parametrize("name", ["Origin", "Referer"])
@pytest.mark.parametrize("value", ["https://evil.example", "null", "http://127.0.0.1:1/x"])
async def test_form_from_another_site_is_rejected(visitor: Visitor, name: str, value: str) -> None:
    await visitor.sign_in()
    form = {"csrf": (await visitor.open_session()).csrf}
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
    assert f'name="csrf" value="{(await visitor.open_session()).csrf}"' in after
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
