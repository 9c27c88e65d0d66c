"""Signing out here, and at the provider if it offers that."""

import httpx
import pytest
from starlette.responses import JSONResponse

from smart_accounts.web.auth import provider
from tests.support.identity_provider import Visitor


async def sign_out(visitor: Visitor) -> httpx.Response:
    form = {"csrf": (await visitor.open_session()).csrf}
    return await visitor.http.post("/sign-out", data=form)


async def test_sign_out_ends_the_session_and_continues_at_the_provider(visitor: Visitor) -> None:
    await visitor.sign_in()
    response = await sign_out(visitor)
    assert response.status_code == 200
    assert "You are signed out" in response.text
    assert "Pat Lee" not in response.text
    assert await visitor.session() is None
    assert "session" not in visitor.http.cookies
    site = visitor.site.url.replace(":", "%3A").replace("/", "%2F")
    url = f"{visitor.provider.url}/end_session?client_id=us&post_logout_redirect_uri={site}%2F"
    assert response.headers["refresh"] == f"0; url={url}"
    assert f'href="{url.replace("&", "&amp;")}"' in response.text


async def test_provider_without_sign_out(visitor: Visitor) -> None:
    await visitor.sign_in()
    visitor.provider.configuration_changes["end_session_endpoint"] = None
    response = await sign_out(visitor)
    assert "refresh" not in response.headers
    assert "You may still be signed in at your identity provider" in response.text
    assert await visitor.session() is None


@pytest.mark.parametrize("outage", ["error", "silent"])
async def test_sign_out_works_while_the_provider_is_down(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    await visitor.sign_in()
    monkeypatch.setattr(provider, "TIMEOUT_SECONDS", 0.2)
    path = "/.well-known/openid-configuration"
    if outage == "silent":
        visitor.provider.silent_path = path
    else:
        visitor.provider.responses[path] = JSONResponse({}, 500)
    response = await sign_out(visitor)
    assert response.status_code == 200
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
