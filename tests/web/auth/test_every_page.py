"""How each page of the sign-in looks in a real browser."""

from collections.abc import Awaitable, Callable
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


async def company(visitor: Visitor) -> httpx.Response:
    await sign_in(sub="new-person", company=None)(visitor)
    return await visitor.http.get("/sign-in/company?next=/requests/new")


async def company_with_error(visitor: Visitor) -> httpx.Response:
    await company(visitor)
    form = {"csrf": visitor.open_session.csrf, "company": "<Partner>"}
    return await visitor.http.post("/sign-in/company", data=form)


async def provider_down(visitor: Visitor) -> httpx.Response:
    visitor.provider.responses["/.well-known/openid-configuration"] = JSONResponse({}, 500)
    return await visitor.http.get("/sign-in")


async def signed_out(visitor: Visitor) -> httpx.Response:
    await visitor.sign_in()
    return await visitor.http.post("/sign-out", data={"csrf": visitor.open_session.csrf})


async def signed_out_only_here(visitor: Visitor) -> httpx.Response:
    visitor.provider.configuration_changes["end_session_endpoint"] = None
    return await signed_out(visitor)


NOT_SIGNED_IN = "You are not signed in"
PAGES: dict[str, tuple[int, str, Open]] = {
    "start": (200, "Smart Account requests", lambda visitor: visitor.http.get("/")),
    "foreign-state": (400, NOT_SIGNED_IN, callback(state="not-ours")),
    "denied": (403, NOT_SIGNED_IN, callback(error="access_denied")),
    "provider-failed": (400, NOT_SIGNED_IN, callback(error="temporarily_unavailable")),
    "invalid-token": (400, NOT_SIGNED_IN, sign_in(nonce="another")),
    "unverified-email": (403, NOT_SIGNED_IN, sign_in(email_verified=False)),
    "invalid-claims": (403, NOT_SIGNED_IN, sign_in(name="", email="a@b.example, c@d.example")),
    "company": (200, "Which company are you with?", company),
    "company-with-error": (422, "Which company are you with?", company_with_error),
    "provider-down": (503, "Sign-in is not available right now", provider_down),
    "signed-out": (200, "You are signed out", signed_out),
    "signed-out-only-here": (200, "You are signed out", signed_out_only_here),
    "session-ended": (
        401,
        "You are no longer signed in",
        lambda visitor: visitor.http.post("/requests/review"),
    ),
}


@pytest.mark.parametrize("name", PAGES)
async def test_page_is_accessible_and_small(
    name: str, visitor: Visitor, new_page: OpenPage
) -> None:
    status, heading, open_page = PAGES[name]
    response = await open_page(visitor)
    assert response.status_code == status
    async with new_page() as page:
        await show(page, response, visitor.http)
        await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        await look(page, f"sign-in-{name}")
