"""Signing in: the request to the provider, and the cookies of the browser."""

import base64
import hashlib
import random
from urllib.parse import quote

import httpx
import pytest

from smart_accounts.errors import Unavailable
from smart_accounts.store.sessions import Partner
from tests.support.identity_provider import NewVisitor, Visitor, query_of


def cookie_of(response: httpx.Response, name: str) -> dict[str, str]:
    """Return the value and the attributes of the cookie that the response sets."""
    cookies = response.headers.get_list("set-cookie")
    [cookie] = [each for each in cookies if each.startswith(f"{name}=")]
    first, *attributes = cookie.split("; ")
    pairs = (attribute.partition("=") for attribute in attributes)
    return {"value": first.partition("=")[2]} | {key.lower(): value for key, _, value in pairs}


async def test_sign_in_leads_to_the_requested_page(
    visitor: Visitor,
) -> None:
    response = await visitor.sign_in("/requests/new?from=mail")
    assert (response.status_code, response.headers["location"]) == (303, "/requests/new?from=mail")
    assert await visitor.partner() == Partner(
        issuer=visitor.provider.url,
        subject="pat",
        email="pat@partner.example",
        name="Pat Lee",
        company="Partner Ltd",
    )
    assert (await visitor.partner()).requester.company == "Partner Ltd"
    assert [name for name in visitor.http.cookies if name.startswith("sign-in")] == []


async def test_requests_to_the_provider_follow_openid_connect(visitor: Visitor) -> None:
    back = await visitor.start_sign_in()
    query = visitor.provider.authorization_query
    assert query["response_type"] == "code"
    assert query["client_id"] == "us"
    # Not from the Host header, which the client can set to anything.
    assert query["redirect_uri"] == f"{visitor.site.url}/sign-in/callback"
    assert query["scope"].split() == ["openid", "email", "profile"]
    assert query["code_challenge_method"] == "S256"
    assert min(len(query[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    await visitor.open_callback(**back)
    [(form, authorization)] = visitor.provider.token_requests
    digest = hashlib.sha256(form.pop("code_verifier").encode()).digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == query["code_challenge"]
    assert form == {
        "grant_type": "authorization_code",
        "code": "good",
        "redirect_uri": query["redirect_uri"],
    }
    assert authorization == "Basic " + base64.b64encode(b"us:a%3Asecret").decode()


async def test_each_sign_in_has_its_own_secrets(visitor: Visitor) -> None:
    await visitor.start_sign_in()
    first = visitor.provider.authorization_query
    await visitor.start_sign_in()
    second = visitor.provider.authorization_query
    assert all(first[name] != second[name] for name in ("state", "nonce", "code_challenge"))


async def test_public_client_sends_no_secret(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor(oidc_client_secret=None)
    assert (await visitor.sign_in()).status_code == 303
    [(form, authorization)] = visitor.provider.token_requests
    assert form["client_id"] == "us"
    assert "client_secret" not in form
    assert authorization is None


async def test_secret_is_sent_in_the_form_if_the_provider_requires_that(visitor: Visitor) -> None:
    visitor.provider.configuration_changes["token_endpoint_auth_methods_supported"] = [
        "client_secret_post"
    ]
    assert (await visitor.sign_in()).status_code == 303
    [(form, authorization)] = visitor.provider.token_requests
    assert (form["client_id"], form["client_secret"]) == ("us", "a:secret")
    assert authorization is None


async def test_query_of_the_authorization_endpoint_is_kept(visitor: Visitor) -> None:
    url = f"{visitor.provider.url}/authorization?policy=partners"
    visitor.provider.configuration_changes["authorization_endpoint"] = url
    await visitor.start_sign_in()
    assert visitor.provider.authorization_query["policy"] == "partners"


@pytest.mark.parametrize("https", [True, False])
async def test_cookies_are_protected(new_visitor: NewVisitor, https: bool) -> None:
    visitor = await new_visitor(public_url="https://accounts.example" if https else None)
    prefix = "__Host-" if https else ""
    sent = await visitor.http.get("/sign-in")
    state = query_of(sent.headers["location"])["state"]
    attempt = cookie_of(sent, f"{prefix}sign-in-{state[:8]}")
    session = cookie_of(await visitor.sign_in(), f"{prefix}session")
    assert int(attempt.pop("max-age")) in range(595, 601)
    # The session ends after eight hours, and the next 24 hours tell whose a late form is.
    assert int(session.pop("max-age")) in range(32 * 3600 - 5, 32 * 3600 + 1)
    for cookie in (attempt, session):
        assert cookie.pop("value")
        expected = {"path": "/", "httponly": "", "samesite": "lax"}
        assert cookie == expected | ({"secure": ""} if https else {})


async def test_largest_session_fits_into_a_cookie(visitor: Visitor) -> None:
    rng = random.Random(4)
    visitor.provider.person |= {
        "email": f"{'p' * 64}@{'d' * 60}.{'e' * 60}.{'f' * 55}.example",
        "name": "".join(chr(rng.randrange(0x4E00, 0x9FA0)) for _ in range(120)),
        "company": "".join(chr(rng.randrange(0x20000, 0x2A6D0)) for _ in range(120)),
    }
    visitor.provider.token_changes["sub"] = "s" * 255
    response = await visitor.sign_in("/" + "x" * 1000)
    assert response.status_code == 303
    assert (await visitor.partner()).subject == "s" * 255
    assert max(len(cookie) for cookie in response.headers.get_list("set-cookie")) < 4096


async def test_sign_in_always_starts_a_new_session(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    attacker = await new_visitor()
    await attacker.sign_in()
    visitor.set_session_cookie(attacker.http.cookies["session"])
    visitor.provider.token_changes |= {"sub": "victim", "name": "Vic Tim"}
    await visitor.sign_in()
    assert (await visitor.partner()).name == "Vic Tim"
    assert await attacker.session() is None  # the session that the browser had before has ended


async def test_callback_accepts_only_get(visitor: Visitor) -> None:
    back = await visitor.start_sign_in()
    head = await visitor.http.head("/sign-in/callback", params=back)
    assert head.status_code == 405
    assert visitor.provider.token_requests == []
    assert (await visitor.http.head("/sign-in")).status_code == 303


async def test_page_that_needs_a_sign_in_redirects_there(visitor: Visitor) -> None:
    path = "/sign-in/company"
    sent = await visitor.http.get(f"{path}?next=/requests/new")
    assert sent.headers["location"] == f"/sign-in?next={quote(f'{path}?next=/requests/new', '')}"


async def test_database_outage_shows_the_outage_page(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def raise_unavailable(*_: str) -> None:
        raise Unavailable("no")

    monkeypatch.setattr(visitor.site.store.partners, "company_of", raise_unavailable)
    del visitor.provider.person["company"]
    response = await visitor.sign_in()
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")
    assert await visitor.session() is None
