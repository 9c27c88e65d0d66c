"""Times on pages: in the reader's time zone, or in UTC without scripts."""

from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import expect

from smart_accounts.contract.messages import RequestStatus
from smart_accounts.errors import Rejected
from tests.support.browser import OpenPage
from tests.support.form_scenes import press
from tests.support.partner_site import ACME_PAGE, PartnerSite, pat_request
from tests.support.read_model import status_in

REQUESTED_AT = datetime(2026, 9, 10, 20, 5, tzinfo=UTC)
IN_UTC = "2026-12-09 20:05 UTC"
IN_KOLKATA = "2026-12-10 01:35 GMT+5:30"
BROWSERS: dict[str, tuple[dict[str, Any], str, str]] = {
    # options of the browser, the deadline, and the name of the time zone beside days
    "scripts": ({}, IN_KOLKATA, "India Standard Time"),
    "no scripts": ({"java_script_enabled": False}, IN_UTC, "UTC"),
}


@pytest.mark.parametrize("browser", BROWSERS)
async def test_times_are_in_the_readers_time_zone(
    served_partner_site: PartnerSite, new_page: OpenPage, browser: str
) -> None:
    site = served_partner_site
    options, deadline, zone = BROWSERS[browser]
    run = await site.add_request(pat_request(), at=REQUESTED_AT)
    stored = await status_in(site.store, run)
    next_step = f"Waits for the customer's answer until {IN_UTC}."
    live = stored.model_dump() | {"next_step": next_step}
    site.temporal.live_status = RequestStatus.model_validate(live)
    async with new_page(timezone_id="Asia/Kolkata", **options) as page:
        await page.goto(f"{site.url}/requests")
        await expect(page.locator(".count")).to_have_text(
            f"1 request · days in {zone} · Download as CSV"
        )
        await expect(page.get_by_role("cell").nth(3)).to_contain_text(deadline[:10])
        await page.goto(f"{site.url}{ACME_PAGE}")
        await expect(page.locator(".current-status")).to_contain_text(deadline)
        await expect(page.locator(".timeline")).to_contain_text(f"answer until {deadline}.")
        site.temporal.error = Rejected(f"Too many emails; try again at {IN_UTC}.")
        await page.get_by_text("Send the activation email again").click()
        await press(page, "Send it again")
        message = f"try again at {deadline}."
        await expect(page.get_by_role("alert")).to_contain_text(message)
        await expect(page.locator("#resend")).to_contain_text(message)
        await page.goto(f"{site.url}/sessions")
        await expect(page.locator("main time")).to_contain_text([deadline[16:]] * 2)


async def test_name_that_looks_like_a_time_stops_no_script(
    served_partner_site: PartnerSite, new_page: OpenPage
) -> None:
    """A name may stand in a sentence whose times become elements."""
    name = "2026-99-99 99:99 UTC"
    requester = pat_request().requester.model_copy(update={"name": name})
    await served_partner_site.add_request(pat_request(requester=requester), at=REQUESTED_AT)
    async with new_page(timezone_id="Asia/Kolkata") as page:
        await page.goto(f"{served_partner_site.url}{ACME_PAGE}")
        await expect(page.locator(".timeline")).to_contain_text(f"By {name}, Partner Ltd.")
        await expect(page.locator(".timeline")).to_contain_text(f"answer until {IN_KOLKATA}.")


async def test_limit_on_the_form_says_when_to_try_again(partner_site: PartnerSite) -> None:
    partner_site.temporal.error = Rejected(f"That is the limit. Try again at {IN_UTC}.")
    form = {"account_name": "Acme", "customer_email": "ada@acme.example"}
    response = await partner_site.submit("/requests", **form)
    assert f'Try again at <time datetime="2026-12-09T20:05Z">{IN_UTC}</time>.' in response.text
