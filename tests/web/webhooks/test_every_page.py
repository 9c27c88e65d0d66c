"""How each page for webhooks looks in a real browser."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Page

from smart_accounts.local.previews import RIGHT_TO_LEFT
from smart_accounts.store.webhook_records import Attempt
from tests.support.browser import OpenPage
from tests.support.form_scenes import Scene, press
from tests.support.looks import look
from tests.support.partner_site import PartnerSite, pat_request
from tests.support.partners import OPERATOR
from tests.support.webhook_scenes import (
    ACCEPTED,
    REFUSED,
    add_delivery,
    only_endpoint,
    register,
)

LONG = "https://93.184.215.14/" + "hooks/smart-accounts/" * 20 + "?tenant=" + "0123456789" * 20
ERROR_PAGE = "<!doctype html>\n<title>502</title>\n<h1>Bad gateway</h1>\n" + "nginx/1.26 " * 24


async def empty_list(page: Page, site: PartnerSite) -> None:
    await page.goto(f"{site.url}/webhooks")


async def form_with_errors(page: Page, site: PartnerSite) -> None:
    await site.sign_in(OPERATOR)
    await page.goto(f"{site.url}/webhooks/new")
    await page.get_by_label("URL").fill("https://pat:secret@example.com/")
    await page.get_by_label("Description").fill("<CRM>")
    for box in await page.get_by_role("checkbox").all():
        await box.uncheck()
    await press(page, "Register")


async def registered(page: Page, site: PartnerSite) -> None:
    await page.goto(f"{site.url}/webhooks/new")
    await page.get_by_label("URL").fill(LONG)
    await press(page, "Register")


async def failing(page: Page, site: PartnerSite) -> None:
    await register(site, url=LONG, description=RIGHT_TO_LEFT.account_name)
    endpoint = await only_endpoint(site)
    await site.add_request(pat_request(account_name="Acme Networks"))
    for _ in range(4):
        await add_delivery(site, endpoint, ACCEPTED)
    gateway = Attempt(status_code=502, error="Status 502.", response=ERROR_PAGE[:300], took_ms=31)
    await add_delivery(site, endpoint, REFUSED, gateway)
    await page.goto(f"{site.url}/webhooks/{endpoint.id}")


async def disabled(page: Page, site: PartnerSite) -> None:
    """The list with all states, and the page of a disabled endpoint."""
    await site.sign_in(OPERATOR)
    for url, fields in (
        (LONG, {"for_all_requests": "yes"}),
        ("https://93.184.215.15/", {"request.lapsed": ""}),
        ("https://93.184.215.16/", {"description": ""}),
    ):
        await register(site, url=url, **fields)
    endpoint = await only_endpoint(site)
    for hours in range(120, -1, -20):
        delivery = await add_delivery(site, endpoint)
        at = datetime.now(UTC) - timedelta(hours=hours)
        await site.store.deliveries.record(delivery.id, REFUSED, at)
    await page.goto(f"{site.url}/webhooks")
    await look(page, "34-webhook-list")
    await page.goto(f"{site.url}/webhooks/{endpoint.id}")
    for summary in await page.locator("summary").all():
        await summary.click()


PAGES: dict[str, Scene] = {
    "30-webhook-empty-list": empty_list,
    "31-webhook-form-with-errors": form_with_errors,
    "32-webhook-secret": registered,
    "33-webhook-failing": failing,
    "34-webhook-disabled": disabled,
}


@pytest.mark.parametrize("name", PAGES)
async def test_page_is_accessible_and_small(
    name: str, served_partner_site: PartnerSite, page_to_look_at: OpenPage
) -> None:
    async with page_to_look_at() as page:
        await PAGES[name](page, served_partner_site)
        await look(page, name)
