"""A partner who makes a request: the pages of the form, for tests of how pages look."""

from collections.abc import Awaitable, Callable

from playwright.async_api import Page, expect

from smart_accounts.errors import Unavailable
from smart_accounts.local.previews import RIGHT_TO_LEFT
from tests.support.looks import screenshot
from tests.support.partner_site import PartnerSite, pat_request
from tests.support.partners import DANA, PAT

Scene = Callable[[Page, PartnerSite], Awaitable[None]]
"""Leads a browser to a page."""


async def fill(page: Page, site: PartnerSite, **values: str) -> None:
    await page.goto(f"{site.url}/requests/new")
    defaults = {
        "Account name": "Acme Networks",
        "Customer email": "ada@acme.example",
        "Note to customer": "As agreed on the phone.\nPlease answer soon.",
        "User emails": "bo@acme.example, cy@acme.example; BO@acme.example",
        "Note to added users": "Welcome aboard.",
    }
    for label, value in (defaults | values).items():
        await page.get_by_label(label).fill(value)


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def form_with_errors(page: Page, site: PartnerSite) -> None:
    await fill(page, site, **{"Account name": "<b>", "User emails": "bo@acme.example cy@ dee"})
    await press(page, "Review Request")


async def review(page: Page, site: PartnerSite) -> None:
    await fill(page, site)
    await press(page, "Review Request")


async def review_with_hint(page: Page, site: PartnerSite) -> None:
    await fill(page, site, **{"Account domain": "other.example", "User emails": ""})
    await press(page, "Review Request")


async def starting(page: Page, site: PartnerSite) -> None:
    await review(page, site)
    await press(page, "Send Request")


async def complete(page: Page, site: PartnerSite) -> None:
    await starting(page, site)
    await site.store_running_requests()
    await page.reload()


async def rejected(page: Page, site: PartnerSite) -> None:
    await site.temporal.start(pat_request(), key="another-key")
    await site.add_request(pat_request())
    await starting(page, site)


async def outage(page: Page, site: PartnerSite) -> None:
    await review(page, site)
    site.temporal.error = Unavailable("no")
    await press(page, "Send Request")


async def form_of_another_session(page: Page, site: PartnerSite) -> None:
    await fill(page, site)
    await site.sign_in(PAT)
    await press(page, "Review Request")


async def start(page: Page, site: PartnerSite) -> None:
    await page.goto(site.url)


async def new_form(page: Page, site: PartnerSite) -> None:
    await page.goto(f"{site.url}/requests/new")


async def right_to_left_review(page: Page, site: PartnerSite) -> None:
    """Review a request that is written in Hebrew and Arabic."""
    await site.sign_in(DANA)
    written = {
        "Account name": RIGHT_TO_LEFT.account_name,
        "Note to customer": RIGHT_TO_LEFT.note_to_customer or "",
    }
    await fill(page, site, **written)
    await screenshot(page, "05-right-to-left-form")
    for label, direction in (("Account name", "rtl"), ("Customer email", "ltr")):
        await expect(page.get_by_label(label)).to_have_css("direction", direction)
    await press(page, "Review Request")


FORM_PAGES: dict[str, Scene] = {
    "01-start": start,
    "02-new": new_form,
    "03-errors": form_with_errors,
    "04-review": review,
    "05-review-with-hint": review_with_hint,
    "05-right-to-left-review": right_to_left_review,
    "06-starting": starting,
    "07-complete": complete,
    "08-rejected": rejected,
    "09-outage": outage,
    "09-form-of-another-session": form_of_another_session,
}
