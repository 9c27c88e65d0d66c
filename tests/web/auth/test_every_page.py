"""How each page of the sign-in looks in a real browser."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.async_api import expect
from starlette.responses import JSONResponse

from tests.support.browser import OpenPage
from tests.support.identity_provider import Visitor
from tests.support.looks import look, show

Open = Callable[[Visitor], Awaitable[httpx.Response]]
"""Puts the visitor into a state and returns the response with its page."""


def callback(**changes: str) -> Open:
    """Come back from the provider with this query changed."""

    async def opened(visitor: Visitor) -> httpx.Response:
        return await visitor.open_callback(**await visitor.start_sign_in() | changes)

    return opened


def sign_in(**claims: Any) -> Open:
    """Sign in with these claims in the ID token."""

    async def opened(visitor: Visitor) -> httpx.Response:
        visitor.provider.token_changes |= claims
        return await visitor.sign_in("/requests/new")

    return opened


async def sign_in_without_cookies(visitor: Visitor) -> httpx.Response:
    back = await visitor.start_sign_in("/requests/new")
    visitor.http.cookies.clear()
    back = visitor.sign_in_at_provider(await visitor.open_callback(**back))
    visitor.http.cookies.clear()
    return await visitor.open_callback(**back)


async def denied_while_signed_in(visitor: Visitor) -> httpx.Response:
    await visitor.sign_in()
    return await callback(error="access_denied")(visitor)


async def company(visitor: Visitor) -> httpx.Response:
    await sign_in(sub="new-person", company=None)(visitor)
    return await visitor.http.get("/sign-in/company?next=/requests/new")


async def company_with_error(visitor: Visitor) -> httpx.Response:
    await company(visitor)
    form = {"csrf": (await visitor.open_session()).csrf, "company": "<Partner>"}
    return await visitor.http.post("/sign-in/company", data=form)


async def provider_down(visitor: Visitor) -> httpx.Response:
    visitor.provider.responses["/.well-known/openid-configuration"] = JSONResponse({}, 500)
    return await visitor.http.get("/sign-in")


async def signed_out(visitor: Visitor) -> httpx.Response:
    await visitor.sign_in()
    return await visitor.http.post("/sign-out", data={"csrf": (await visitor.open_session()).csrf})


async def signed_out_only_here(visitor: Visitor) -> httpx.Response:
    visitor.provider.configuration_changes["end_session_endpoint"] = None
    return await signed_out(visitor)


async def sessions(visitor: Visitor, **claims: Any) -> None:
    """Sign in at three browsers, here last."""
    visitor.provider.token_changes |= claims
    for system, browser in BROWSERS:
        visitor.http.cookies.clear()
        agent = f"Mozilla/5.0 ({system}) AppleWebKit/537.36 {browser}"
        visitor.http.headers["User-Agent"] = agent
        await visitor.sign_in()


async def own_sessions(visitor: Visitor) -> httpx.Response:
    await sessions(visitor, sub="often-signed-in")
    return await visitor.http.get("/sessions")


async def sessions_of_a_person(visitor: Visitor) -> httpx.Response:
    await sessions(visitor, sub="a-person", email="a-person@partner.example")
    visitor.http.cookies.clear()
    operator = {"sub": "an-operator", "name": "Oda Ray", "email": "oda@service.example"}
    visitor.provider.token_changes |= operator | {"roles": ["smart-accounts-operator"]}
    await visitor.sign_in()
    return await visitor.http.get("/sessions?email=a-person@partner.example")


async def late_form(visitor: Visitor) -> httpx.Response:
    """Send a form whose session has expired."""
    visitor.provider.token_changes |= {"sub": "late", "email": "late@partner.example"}
    await visitor.sign_in()
    form = FORM | {"csrf": (await visitor.open_session()).csrf}
    await visitor.change_session(began_at=datetime.now(UTC) - timedelta(hours=9))
    return await visitor.http.post("/requests/review", data=form)


FORM = {"account_name": "Acme", "customer_email": "ada@acme.example"}
BROWSERS = [
    ("Windows NT 10.0; Win64; x64", "Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0"),
    ("iPhone; CPU iPhone OS 18_0 like Mac OS X", "Version/18.0 Mobile/15E148 Safari/604.1"),
    ("X11; Linux x86_64; rv:130.0", "Gecko/20100101 Firefox/130.0"),
]
NOT_SIGNED_IN = "You are not signed in"
PAGES: dict[str, tuple[int, str, Open]] = {
    "start": (200, "Smart Account requests", lambda visitor: visitor.http.get("/")),
    "foreign-state": (400, NOT_SIGNED_IN, callback(state="not-ours")),
    "denied": (403, NOT_SIGNED_IN, callback(error="access_denied")),
    "provider-failed": (400, NOT_SIGNED_IN, callback(error="temporarily_unavailable")),
    "invalid-token": (400, NOT_SIGNED_IN, sign_in(nonce="another")),
    "unverified-email": (403, NOT_SIGNED_IN, sign_in(email_verified=False)),
    "unstated-email": (403, NOT_SIGNED_IN, sign_in(email_verified=None)),
    "no-cookies": (400, NOT_SIGNED_IN, sign_in_without_cookies),
    "denied-while-signed-in": (403, "The sign-in failed", denied_while_signed_in),
    "invalid-claims": (403, NOT_SIGNED_IN, sign_in(name="", email="a@b.example, c@d.example")),
    "company": (200, "Which company are you with?", company),
    "company-with-error": (422, "Which company are you with?", company_with_error),
    "provider-down": (503, "Sign-in is not available right now", provider_down),
    "signed-out": (200, "You are signed out", signed_out),
    "signed-out-only-here": (200, "You are signed out", signed_out_only_here),
    "sessions": (200, "Where you are signed in", own_sessions),
    "sessions-of-a-person": (200, "Where a person is signed in", sessions_of_a_person),
    "session-ended": (
        401,
        "You are no longer signed in",
        lambda visitor: visitor.http.post("/requests/review"),
    ),
    "session-ended-with-text": (
        401,
        "You are no longer signed in",
        lambda visitor: visitor.http.post("/requests/review", data=FORM),
    ),
    "session-ended-with-a-draft": (401, "You are no longer signed in", late_form),
}


@pytest.mark.parametrize("name", PAGES)
async def test_page_is_accessible_and_small(
    name: str, visitor: Visitor, page_to_look_at: OpenPage
) -> None:
    status, heading, open_page = PAGES[name]
    response = await open_page(visitor)
    assert response.status_code == status
    async with page_to_look_at() as page:
        await show(page, response, visitor.http)
        await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        await look(page, f"sign-in-{name}")
