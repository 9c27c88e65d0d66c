"""Signing out: here, and at the provider if it offers that."""

from typing import Any

import pytest
from starlette.responses import JSONResponse

from smart_accounts.web.auth import provider


async def signs_out(visitor: Any, **headers: str) -> Any:
    form = {"csrf": visitor.session.csrf}
    return await visitor.http.post("/sign-out", data=form, headers=headers)


async def test_it_ends_the_session_and_goes_on_to_the_provider(visitor: Any) -> None:
    await visitor.signs_in()
    answer = await signs_out(visitor)
    assert answer.status_code == 200
    assert "You are signed out" in answer.text
    assert "Pat Lee" not in answer.text
    assert visitor.session is None
    assert "session" not in visitor.http.cookies
    site = visitor.site.url.replace(":", "%3A").replace("/", "%2F")
    there = f"{visitor.provider.url}/end_session?client_id=us&post_logout_redirect_uri={site}%2F"
    assert answer.headers["refresh"] == f"0; url={there}"
    assert f'href="{there.replace("&", "&amp;")}"' in answer.text


async def test_a_provider_that_has_no_sign_out_is_left_alone(visitor: Any) -> None:
    await visitor.signs_in()
    visitor.provider.configuration["end_session_endpoint"] = None
    answer = await signs_out(visitor)
    assert "refresh" not in answer.headers
    assert "You may still be signed in at your identity provider" in answer.text
    assert visitor.session is None


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_it_works_while_the_provider_is_away(
    visitor: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    await visitor.signs_in()
    monkeypatch.setattr(provider, "TIMEOUT_SECONDS", 0.2)
    path = "/.well-known/openid-configuration"
    if how == "hangs":
        visitor.provider.hangs = path
    else:
        visitor.provider.answers[path] = JSONResponse({}, 500)
    answer = await signs_out(visitor)
    assert answer.status_code == 200
    assert visitor.session is None


@pytest.mark.parametrize("form", [{}, {"csrf": "x"}])
async def test_another_site_can_not_sign_anybody_out(visitor: Any, form: dict[str, str]) -> None:
    await visitor.signs_in()
    for headers in [{}, {"Origin": "https://evil.example"}]:
        answer = await visitor.http.post("/sign-out", data=form, headers=headers)
        assert answer.status_code == 403
        assert visitor.session
    # Browsers leave the cookie out of another site's form; its answer must not take it away.
    cookie = visitor.http.cookies["session"]
    visitor.http.cookies.clear()
    answer = await visitor.http.post("/sign-out", data=form)
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    visitor.keeps(cookie)
    assert visitor.session


async def test_a_link_signs_nobody_out(visitor: Any) -> None:
    await visitor.signs_in()
    for method in ("GET", "HEAD"):
        assert (await visitor.http.request(method, "/sign-out")).status_code == 405
    assert visitor.session
