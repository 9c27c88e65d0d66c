"""Each page that needs no sign-in, looked at in a real browser: the customer's, and errors."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from playwright.async_api import expect

from smart_accounts.contract.messages import Status
from smart_accounts.errors import NotFound, Unavailable
from tests.support.looks import look, show

NOW = datetime.now(UTC)
BARE: dict[str, Any] = {"note_to_customer": None, "note_to_added_users": None, "added_users": ()}
LONG: dict[str, Any] = {
    "account_name": "W" * 120,
    "account_domain": f"{'a' * 60}.{'b' * 60}.example",
    "customer_email": f"{'m' * 64}@{'d' * 60}.example",
    "note_to_customer": "x" * 1024,
}
YES = {"agree": "yes"}
Answer = Awaitable[httpx.Response]


def at(path: str, method: str = "GET", **more: Any) -> Callable[[Any], Answer]:
    return lambda site: site.http.request(method, path, **more)


def link(
    path: str = "", form: dict[str, str] | None = None, **stored: Any
) -> Callable[..., Answer]:
    """The page behind the link of a request that is stored so; with a form, what answers that."""

    async def opened(site: Any) -> Any:
        url = f"/activate/{await site.issue(**stored)}{path}"
        return await (site.http.get(url) if form is None else site.http.post(url, data=form))

    return opened


def ended(status: Status, **more: Any) -> Callable[..., Answer]:
    return link(status=status, decided_at=NOW, **more)


def without_temporal(error: Exception) -> Callable[..., Answer]:
    async def answered(site: Any) -> Any:
        site.temporal.fails = error
        return await link("/decline", {"reason": "Not us."})(site)

    return answered


def without_store(error: Exception) -> Callable[..., Answer]:
    async def opened(site: Any) -> Any:
        site.store.fail(error)
        return await link()(site)

    return opened


async def too_many(site: Any) -> Any:
    for _ in range(30):
        await site.http.get("/activate/none")
    return await site.http.get("/activate/none")


ACCEPT = "Accept a Smart Account"
PAGES: dict[str, tuple[int, str, Callable[[Any], Answer]]] = {
    "open": (200, ACCEPT, link()),
    "open-bare": (200, ACCEPT, link(**BARE)),
    "open-long": (200, ACCEPT, link(**LONG)),
    "open-unticked": (422, ACCEPT, link(form={})),
    "open-too-long": (422, ACCEPT, link("/decline", {"reason": "Not us, sorry. " * 69})),
    "accepted": (200, "We have received your acceptance", link(signalled="accepted")),
    "declining": (200, "We have received your answer", link(signalled="declined")),
    "activated": (200, "Your Smart Account is activated", ended(Status.ACTIVE)),
    "activated-bare": (200, "Your Smart Account is activated", ended(Status.ACTIVE, **BARE)),
    "declined": (
        *(200, "You declined the Smart Account"),
        ended(Status.DECLINED, reason="We know no such partner.\nSorry."),
    ),
    "accepted-before": (
        *(409, "This request was already accepted"),
        link("/decline", {}, status=Status.ACTIVE),
    ),
    "declined-before": (
        *(409, "This request was already declined"),
        link("", YES, status=Status.DECLINED),
    ),
    "deadline": (410, "The deadline has passed", link(deadline=NOW - timedelta(minutes=1))),
    "lapsed": (410, "This request has lapsed", ended(Status.LAPSED)),
    "withdrawn": (410, "This request was withdrawn", ended(Status.WITHDRAWN)),
    "undeliverable": (410, "This request could not be delivered", ended(Status.UNDELIVERABLE)),
    "rejected": (410, "This request was refused", ended(Status.REJECTED)),
    "superseded": (410, "There is a newer link", link(link_ordinal=2)),
    "terminated": (410, "This request was ended", without_temporal(NotFound("closed"))),
    "foreign": (
        *(403, "Please answer on our own page"),
        at("/activate/x", "POST", headers={"Origin": "https://evil.example"}),
    ),
    "unknown": (404, "We can\u2019t find this page", at("/activate/unknown")),
    "no-method": (405, "That did not work", at("/activate/unknown", "PUT")),
    "too-large": (
        *(413, "That was too much text"),
        at("/activate/x", "POST", data={"reason": "x" * 20_000}),
    ),
    "too-many": (429, "Too many requests", too_many),
    "failed": (500, "Something went wrong", without_store(RuntimeError("secret"))),
    "no-sign-in": (501, "Sign-in is not set up", at("/sign-in")),
    "outage": (503, "Please try again in a moment", without_store(Unavailable("no"))),
    "outage-answered": (503, "Please try again in a moment", without_temporal(Unavailable("no"))),
    "start": (200, "Smart Account requests", at("/")),
    "api": (200, "The API", at("/docs")),
}


@pytest.mark.parametrize("name", PAGES)
async def test_the_page_is_accessible_small_and_all_ours(
    name: str, site: Any, new_page: Any
) -> None:
    status, heading, opened = PAGES[name]
    answer = await opened(site)
    assert answer.status_code == status
    async with new_page() as page:
        await show(page, answer, site.http)
        await expect(page.get_by_role("heading", level=1)).to_have_text(heading)
        await look(page, f"customer-{name}")
