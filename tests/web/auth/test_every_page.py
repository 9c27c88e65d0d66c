"""Each page around the sign-in, looked at in a real browser."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from playwright.async_api import expect
from starlette.responses import JSONResponse

from tests.support.looks import look, show

Answer = Awaitable[httpx.Response]


def comes_back(**query: str) -> Callable[[Any], Answer]:
    """What the identity provider's answer leads to; a ``state`` among it is a stranger's."""

    async def opened(visitor: Any) -> Any:
        return await visitor.comes_back(**await visitor.goes() | query)

    return opened


def signs_in(**claims: Any) -> Callable[[Any], Answer]:
    """With these claims in the ID token."""

    async def opened(visitor: Any) -> Any:
        visitor.provider.token |= claims
        return await visitor.signs_in("/requests/new")

    return opened


async def company(visitor: Any) -> Any:
    await signs_in(sub="nobody-yet", company=None)(visitor)
    return await visitor.http.get("/sign-in/company?next=/requests/new")


async def company_refused(visitor: Any) -> Any:
    await company(visitor)
    form = {"csrf": visitor.session.csrf, "company": "<Partner>"}
    return await visitor.http.post("/sign-in/company", data=form)


async def provider_away(visitor: Any) -> Any:
    visitor.provider.answers["/.well-known/openid-configuration"] = JSONResponse({}, 500)
    return await visitor.http.get("/sign-in")


async def signed_out(visitor: Any) -> Any:
    await visitor.signs_in()
    return await visitor.http.post("/sign-out", data={"csrf": visitor.session.csrf})


async def signed_out_here_alone(visitor: Any) -> Any:
    visitor.provider.configuration["end_session_endpoint"] = None
    return await signed_out(visitor)


NOT_IN = "You are not signed in"
PAGES: dict[str, tuple[int, str, Callable[[Any], Answer]]] = {
    "start": (200, "Smart Account requests", lambda visitor: visitor.http.get("/")),
    "stranger": (400, NOT_IN, comes_back(state="not-ours")),
    "denied": (403, NOT_IN, comes_back(error="access_denied")),
    "provider-failed": (400, NOT_IN, comes_back(error="temporarily_unavailable")),
    "token": (400, NOT_IN, signs_in(nonce="another")),
    "email": (403, NOT_IN, signs_in(email_verified=False)),
    "claims": (403, NOT_IN, signs_in(name="", email="a@b.example, c@d.example")),
    "company": (200, "Which company are you with?", company),
    "company-refused": (422, "Which company are you with?", company_refused),
    "provider-down": (503, "Sign-in does not work right now", provider_away),
    "signed-out": (200, "You are signed out", signed_out),
    "signed-out-here-alone": (200, "You are signed out", signed_out_here_alone),
    "signed-out-meanwhile": (
        *(401, "You are no longer signed in"),
        lambda visitor: visitor.http.post("/requests/review"),
    ),
}


@pytest.mark.parametrize("name", PAGES)
async def test_the_page_is_accessible_small_and_all_ours(
    name: str, visitor: Any, new_page: Any
) -> None:
    status, heading, opened = PAGES[name]
    answer = await opened(visitor)
    assert answer.status_code == status
    async with new_page() as page:
        await show(page, answer, visitor.http)
        await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        await look(page, f"sign-in-{name}")
