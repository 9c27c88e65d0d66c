"""How each page for customers and each error page looks in a real browser."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.async_api import expect

from smart_accounts.contract.messages import Status
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.local.previews import RIGHT_TO_LEFT
from tests.support.browser import OpenPage
from tests.support.looks import look, show
from tests.support.site import AGREED, Site

NOW = datetime.now(UTC)
MINIMAL: dict[str, Any] = {"note_to_customer": None, "note_to_added_users": None, "added_users": ()}
LONG: dict[str, Any] = {
    "account_name": "W" * 120,
    "account_domain": f"{'a' * 60}.{'b' * 60}.example",
    "customer_email": f"{'m' * 64}@{'d' * 60}.example",
    "note_to_customer": "x" * 1024,
}
HEBREW: dict[str, Any] = {
    "account_name": RIGHT_TO_LEFT.account_name,
    "requester_name": RIGHT_TO_LEFT.requester.name,
    "requester_company": RIGHT_TO_LEFT.requester.company,
    "note_to_customer": RIGHT_TO_LEFT.note_to_customer,
    "company_is_stated": True,
}
Open = Callable[[Site], Awaitable[httpx.Response]]
"""Puts the site into a state and returns the response with its page."""


def request(path: str, method: str = "GET", **options: Any) -> Open:
    return lambda site: site.http.request(method, path, **options)


def link(path: str = "", form: dict[str, str] | None = None, **stored: Any) -> Open:
    """Open the link of a stored request, or send it a form."""

    async def opened(site: Site) -> httpx.Response:
        url = f"/activate/{await site.add_request(**stored)}{path}"
        return await (site.http.get(url) if form is None else site.http.post(url, data=form))

    return opened


def ended(status: Status, **stored: Any) -> Open:
    return link(status=status, decided_at=NOW, **stored)


def temporal_fails(error: Exception) -> Open:
    async def opened(site: Site) -> httpx.Response:
        site.temporal.error = error
        return await link("/decline", {"reason": "Not us."})(site)

    return opened


def store_fails(error: Exception) -> Open:
    async def opened(site: Site) -> httpx.Response:
        site.store.fail(error)
        return await link()(site)

    return opened


async def too_many_requests(site: Site) -> httpx.Response:
    for _ in range(30):
        await site.http.get("/activate/none")
    return await site.http.get("/activate/none")


ACCEPT = "Accept a Smart Account"
PAGES: dict[str, tuple[int, str, Open]] = {
    "open": (200, ACCEPT, link()),
    "open-minimal": (200, ACCEPT, link(**MINIMAL)),
    "open-long": (200, ACCEPT, link(**LONG)),
    "open-company-stated": (200, ACCEPT, link(company_is_stated=True)),
    "open-right-to-left": (200, ACCEPT, link(**HEBREW)),
    "open-unchecked": (422, ACCEPT, link(form={})),
    "open-too-long": (422, ACCEPT, link("/decline", {"reason": "Not us, sorry. " * 69})),
    "accepted": (200, "We have received your acceptance", link(signalled="accepted")),
    "declining": (200, "We have received your answer", link(signalled="declined")),
    "activated": (200, "Your Smart Account is active", ended(Status.ACTIVE)),
    "activated-minimal": (200, "Your Smart Account is active", ended(Status.ACTIVE, **MINIMAL)),
    "closed": (
        410,
        "This Smart Account was closed",
        ended(Status.ACTIVE, closed_at=NOW, closed_by="opal", close_reason="They asked us to."),
    ),
    "declined": (
        200,
        "You declined the Smart Account",
        ended(Status.DECLINED, reason="We know no such partner.\nSorry."),
    ),
    "declined-right-to-left": (
        200,
        "You declined the Smart Account",
        ended(Status.DECLINED, reason=RIGHT_TO_LEFT.note_to_customer, **HEBREW),
    ),
    "accepted-before": (
        409,
        "This request was already accepted",
        link("/decline", {}, status=Status.ACTIVE),
    ),
    "declined-before": (
        409,
        "This request was already declined",
        link("", AGREED, status=Status.DECLINED),
    ),
    "deadline": (410, "The deadline has passed", link(deadline=NOW - timedelta(minutes=1))),
    "lapsed": (410, "This request has lapsed", ended(Status.LAPSED)),
    "withdrawn": (410, "This request was withdrawn", ended(Status.WITHDRAWN)),
    "undeliverable": (410, "This request could not be delivered", ended(Status.UNDELIVERABLE)),
    "rejected": (410, "This request was rejected", ended(Status.REJECTED)),
    "superseded": (410, "There is a newer link", link(link_ordinal=2)),
    "terminated": (410, "This request has ended", temporal_fails(NotFound("closed"))),
    "foreign-form": (
        403,
        "Please use the form on our own page",
        request("/activate/x", "POST", headers={"Origin": "https://evil.example"}),
    ),
    "unknown": (404, "We can\u2019t find this page", request("/activate/unknown")),
    "wrong-method": (405, "That did not work", request("/activate/unknown", "PUT")),
    "too-large": (
        413,
        "Your text is too long",
        request("/activate/x", "POST", data={"reason": "x" * 20_000}),
    ),
    "too-many": (429, "Too many requests", too_many_requests),
    "failed": (500, "Something went wrong", store_fails(RuntimeError("secret"))),
    "no-sign-in": (501, "Sign-in is not set up", request("/sign-in")),
    "outage": (503, "Please try again in a moment", store_fails(Unavailable("no"))),
    "outage-after-answer": (503, "Please try again in a moment", temporal_fails(Unavailable("no"))),
    "start": (200, "Smart Account requests", request("/")),
    "api": (200, "The API", request("/docs")),
}


@pytest.mark.parametrize("name", PAGES)
async def test_page_is_accessible_and_small(
    name: str, site: Site, page_to_look_at: OpenPage
) -> None:
    status, heading, open_page = PAGES[name]
    response = await open_page(site)
    assert response.status_code == status
    async with page_to_look_at() as page:
        await show(page, response, site.http)
        await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        await look(page, f"customer-{name}")
