"""Signing out here, and at the provider if it offers that."""

import httpx
import pytest
from joserfc import jwt
from starlette.responses import JSONResponse, PlainTextResponse

from smart_accounts.web.auth import provider
from smart_accounts.web.auth.session import MAX_ID_TOKEN
from tests.support.identity_provider import Visitor, query_of


async def sign_out(visitor: Visitor) -> httpx.Response:
    form = {"csrf": (await visitor.open_session()).csrf}
    return await visitor.http.post("/sign-out", data=form)


def hint_of(response: httpx.Response) -> str | None:
    return query_of(response.headers["refresh"].removeprefix("0; url=")).get("id_token_hint")


async def test_sign_out_ends_the_session_and_continues_at_the_provider(visitor: Visitor) -> None:
    await visitor.sign_in()
    response = await sign_out(visitor)
    assert response.status_code == 200
    assert "You are signed out" in response.text
    assert "Pat Lee" not in response.text
    assert await visitor.session() is None
    assert "session" not in visitor.http.cookies
    site = visitor.site.url.replace(":", "%3A").replace("/", "%2F")
    url = response.headers["refresh"].removeprefix("0; url=")
    own = f"client_id=us&post_logout_redirect_uri={site}%2F"
    assert url.startswith(f"{visitor.provider.url}/end_session?{own}&id_token_hint=")
    assert f'href="{url.replace("&", "&amp;")}"' in response.text
    token = jwt.decode(query_of(url)["id_token_hint"], visitor.provider.key)
    assert (token.claims["sub"], token.claims["aud"]) == ("pat", "us")


async def test_database_does_not_show_the_id_token(visitor: Visitor) -> None:
    await visitor.sign_in()
    stored = repr(await visitor.site.all_rows())
    session_id = (await visitor.open_session()).id
    token = hint_of(await sign_out(visitor))
    assert token
    assert not any(part in stored for part in token.split("."))
    assert session_id in stored
    assert session_id not in repr(await visitor.site.all_rows())  # and the token neither


async def test_long_id_token_is_left_out(visitor: Visitor) -> None:
    async def signed_out(padding: int) -> httpx.Response:
        visitor.provider.token_changes["groups"] = "x" * padding
        await visitor.sign_in()
        return await sign_out(visitor)

    shortest = len(hint_of(await signed_out(0)) or "")
    padding = (
        (MAX_ID_TOKEN - shortest) * 3 // 4
    )  # three characters of a claim are four of the token
    longest = await signed_out(padding)
    assert MAX_ID_TOKEN - 4 < len(hint_of(longest) or "") <= MAX_ID_TOKEN
    head = [len(name) + len(value) + len(": \r\n") for name, value in longest.headers.raw]
    assert sum(head) < 4000  # nginx accepts 4 KB
    for more in (4, 9000):
        assert hint_of(await signed_out(padding + more)) is None


async def test_session_without_an_id_token(visitor: Visitor) -> None:
    await visitor.site.start_session()  # as from an older release
    response = await sign_out(visitor)
    assert hint_of(response) is None
    assert "/end_session?" in response.headers["refresh"]


async def test_provider_without_sign_out(visitor: Visitor) -> None:
    await visitor.sign_in()
    visitor.provider.configuration_changes["end_session_endpoint"] = None
    response = await sign_out(visitor)
    assert "refresh" not in response.headers
    assert "You may still be signed in at your identity provider" in response.text
    assert await visitor.session() is None


@pytest.mark.parametrize("outage", ["error", "nested", "silent"])
async def test_sign_out_works_while_the_provider_is_down(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    await visitor.sign_in()
    monkeypatch.setattr(provider, "TIMEOUT_SECONDS", 0.2)
    path = "/.well-known/openid-configuration"
    if outage == "silent":
        visitor.provider.silent_path = path
    elif outage == "nested":
        visitor.provider.responses[path] = PlainTextResponse("[" * 100_000)
    else:
        visitor.provider.responses[path] = JSONResponse({}, 500)
    response = await sign_out(visitor)
    assert response.status_code == 200
    assert await visitor.session() is None


@pytest.mark.parametrize("path", ["/sign-out", "/sessions/end-all"])
async def test_session_ends_before_the_provider_is_asked(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def fail(*_: object) -> None:
        raise ArithmeticError

    await visitor.sign_in()
    monkeypatch.setattr(provider.Provider, "sign_out_url", fail)
    form = {"csrf": (await visitor.open_session()).csrf}
    assert (await visitor.http.post(path, data=form)).status_code == 500
    assert await visitor.session() is None


@pytest.mark.parametrize("form", [{}, {"csrf": "x"}])
async def test_another_site_cannot_sign_a_partner_out(
    visitor: Visitor, form: dict[str, str]
) -> None:
    await visitor.sign_in()
    for headers in [{}, {"Origin": "https://evil.example"}]:
        response = await visitor.http.post("/sign-out", data=form, headers=headers)
        assert response.status_code == 403
        assert await visitor.session()
    # Browsers send another site's form without the cookie. The response must not delete it.
    cookie = visitor.http.cookies["session"]
    visitor.http.cookies.clear()
    response = await visitor.http.post("/sign-out", data=form)
    assert (response.status_code, "set-cookie" in response.headers) == (401, False)
    visitor.set_session_cookie(cookie)
    assert await visitor.session()


async def test_link_does_not_sign_out(visitor: Visitor) -> None:
    await visitor.sign_in()
    for method in ("GET", "HEAD"):
        assert (await visitor.http.request(method, "/sign-out")).status_code == 405
    assert await visitor.session()
