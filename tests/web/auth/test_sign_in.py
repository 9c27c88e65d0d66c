"""A partner signs in: what the provider is asked, and what the browser keeps."""

import base64
import hashlib
import random
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from smart_accounts.errors import Unavailable
from smart_accounts.web.auth import session


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def cookie_of(answer: Any, name: str) -> Any:
    """The attributes of the one cookie of this name that an answer sets, by lower-case name."""
    [found] = [
        each for each in answer.headers.get_list("set-cookie") if each.startswith(f"{name}=")
    ]
    value, *attributes = found.split("; ")
    pairs = (each.partition("=") for each in attributes)
    return {"value": value.partition("=")[2]} | {n.lower(): v for n, _, v in pairs}


async def test_a_partner_signs_in_and_lands_on_the_page_that_was_asked_for(visitor: Any) -> None:
    answer = await visitor.signs_in("/requests/new?from=mail")
    assert (answer.status_code, answer.headers["location"]) == (303, "/requests/new?from=mail")
    assert visitor.session.partner == session.Partner(
        subject="pat", email="pat@partner.example", name="Pat Lee", company="Partner Ltd"
    )
    assert visitor.session.partner.requester.company == "Partner Ltd"
    assert [name for name in visitor.http.cookies if name.startswith("sign-in")] == []


async def test_the_provider_is_asked_as_openid_connect_wants_it(visitor: Any) -> None:
    back = await visitor.goes()
    asked = visitor.provider.asked
    assert asked["response_type"] == "code"
    assert asked["client_id"] == "us"
    # Never from the Host header, which the client makes up.
    assert asked["redirect_uri"] == f"{visitor.site.url}/sign-in/callback"
    assert asked["scope"].split() == ["openid", "email", "profile"]
    assert asked["code_challenge_method"] == "S256"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    await visitor.comes_back(**back)
    [(form, authorization)] = visitor.provider.redeemed
    digest = hashlib.sha256(form.pop("code_verifier").encode()).digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
    assert form == {
        "grant_type": "authorization_code",
        "code": "good",
        "redirect_uri": asked["redirect_uri"],
    }
    assert authorization == "Basic " + base64.b64encode(b"us:a%3Asecret").decode()


async def test_each_sign_in_is_another(visitor: Any) -> None:
    await visitor.goes()
    first = visitor.provider.asked
    await visitor.goes()
    second = visitor.provider.asked
    assert all(first[name] != second[name] for name in ("state", "nonce", "code_challenge"))


async def test_a_public_client_has_no_secret(visit: Any) -> None:
    visitor = await visit(oidc_client_secret=None)
    assert (await visitor.signs_in()).status_code == 303
    [(form, authorization)] = visitor.provider.redeemed
    assert form["client_id"] == "us"
    assert "client_secret" not in form
    assert authorization is None


async def test_a_provider_that_wants_the_secret_in_the_form_gets_it_there(visitor: Any) -> None:
    visitor.provider.configuration["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    assert (await visitor.signs_in()).status_code == 303
    [(form, authorization)] = visitor.provider.redeemed
    assert (form["client_id"], form["client_secret"]) == ("us", "a:secret")
    assert authorization is None


async def test_a_provider_with_a_query_of_its_own_keeps_it(visitor: Any) -> None:
    url = f"{visitor.provider.url}/authorization?policy=partners"
    visitor.provider.configuration["authorization_endpoint"] = url
    await visitor.goes()
    assert visitor.provider.asked["policy"] == "partners"


@pytest.mark.parametrize("https", [True, False])
async def test_cookies_are_kept_from_scripts_other_sites_and_plain_http(
    visit: Any, https: bool
) -> None:
    visitor = await visit(public_url="https://accounts.example" if https else None)
    prefix = "__Host-" if https else ""
    sent = await visitor.http.get("/sign-in")
    state = query_of(sent.headers["location"])["state"]
    attempt = cookie_of(sent, f"{prefix}sign-in-{state[:8]}")
    session = cookie_of(await visitor.signs_in(), f"{prefix}session")
    assert int(attempt.pop("max-age")) in range(595, 601)
    assert int(session.pop("max-age")) in range(8 * 3600 - 5, 8 * 3600 + 1)
    for cookie in (attempt, session):
        assert cookie.pop("value")
        expected = {"path": "/", "httponly": "", "samesite": "lax"}
        assert cookie == expected | ({"secure": ""} if https else {})


async def test_a_session_holds_little_and_fits_into_a_cookie(visitor: Any) -> None:
    rare = random.Random(4)
    visitor.provider.person |= {
        "email": f"{'p' * 64}@{'d' * 60}.{'e' * 60}.{'f' * 55}.example",
        "name": "".join(chr(rare.randrange(0x4E00, 0x9FA0)) for _ in range(120)),
        "company": "".join(chr(rare.randrange(0x20000, 0x2A6D0)) for _ in range(120)),
    }
    visitor.provider.token["sub"] = "s" * 255
    answer = await visitor.signs_in("/" + "x" * 1000)
    assert answer.status_code == 303
    assert visitor.session.partner.subject == "s" * 255
    assert max(len(each) for each in answer.headers.get_list("set-cookie")) < 4096


async def test_signing_in_makes_a_new_session_whatever_cookie_was_there(
    visitor: Any, visit: Any
) -> None:
    attacker = await visit()
    await attacker.signs_in()
    visitor.keeps(attacker.http.cookies["session"])
    visitor.provider.token |= {"sub": "victim", "name": "Vic Tim"}
    await visitor.signs_in()
    assert visitor.session.partner.name == "Vic Tim"
    assert visitor.session.csrf != attacker.session.csrf
    assert attacker.session.partner.name == "Pat Lee"


async def test_only_get_comes_back(visitor: Any) -> None:
    back = await visitor.goes()
    head = await visitor.http.head("/sign-in/callback", params=back)
    assert head.status_code == 405
    assert visitor.provider.redeemed == []
    assert (await visitor.http.head("/sign-in")).status_code == 303


async def test_a_page_that_needs_a_partner_leads_there_and_back(visitor: Any) -> None:
    path = "/sign-in/company"
    sent = await visitor.http.get(f"{path}?next=/requests/new")
    assert sent.headers["location"] == f"/sign-in?next={quote(f'{path}?next=/requests/new', '')}"


async def test_the_database_being_away_is_an_outage(visitor: Any) -> None:
    async def fails(*_: str) -> None:
        raise Unavailable("no")

    visitor.site.store.partners.company_of = fails
    del visitor.provider.person["company"]
    answer = await visitor.signs_in()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert visitor.session is None
