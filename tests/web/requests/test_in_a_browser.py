"""The pages for partners in a browser: with a mouse, with only a keyboard, without scripts."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Locator, Page, expect
from sqlalchemy import update

from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.store import tables
from tests.support.browser import OpenPage
from tests.support.partner_site import ACME_PAGE, PartnerSite, pat_request
from tests.support.partners import PAT

NOW = datetime.now(UTC)
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
BROWSERS: dict[str, dict[str, Any]] = {
    "desktop": {},
    "no scripts": {"java_script_enabled": False},
    "phone without scripts": PHONE | {"java_script_enabled": False},
}


def heading(page: Page) -> Locator:
    return page.get_by_role("heading", level=1)


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


@pytest.mark.parametrize("browser", ["desktop", "phone without scripts"])
async def test_from_the_start_page_to_the_withdrawal(
    served_partner_site: PartnerSite, new_page: OpenPage, browser: str
) -> None:
    async with new_page(**BROWSERS[browser]) as page:
        await page.goto(served_partner_site.url)
        await page.get_by_role("link", name="Request Smart Account").click()
        await expect(heading(page)).to_have_text("Request a Smart Account for Your Customer")
        await page.get_by_label("Account name").fill("Acme Networks")
        await page.get_by_label("Customer email").fill("ada@acme.example")
        await page.get_by_label("User emails").fill("bo@acme.example; cy@")
        await button(page, "Review Request").click()
        await page.get_by_role("link", name="“cy@”").click()
        await expect(page.get_by_label("User emails")).to_be_focused()
        await page.get_by_label("User emails").fill("bo@acme.example; cy@acme.example")
        await button(page, "Review Request").click()
        await expect(heading(page)).to_have_text("Review Request")
        await page.go_back()
        for label, value in (
            ("Account name", "Acme Networks"),
            ("User emails", "bo@acme.example; cy@acme.example"),
        ):
            await expect(page.get_by_label(label)).to_have_value(value)
        await page.go_forward()
        await expect(heading(page)).to_have_text("Review Request")
        await button(page, "Change").click()
        await page.get_by_label("Account name").fill("Acme")
        await button(page, "Review Request").click()
        await expect(page.get_by_text("cy@acme.example")).to_be_visible()
        await button(page, "Send Request").click()
        await expect(heading(page)).to_have_text("We have received your request")
        await served_partner_site.store_running_requests()
        # The page reloads itself without a click or a script.
        await expect(heading(page)).to_have_text("Smart Account Request Complete")
        await page.get_by_role("link", name="Follow the request").click()
        await expect(heading(page)).to_have_text("Acme")
        await page.get_by_role("link", name="← My requests").click()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download as CSV").click()
        assert (await download.value).suggested_filename == "smart-account-requests.csv"
        await page.get_by_role("link", name="Acme", exact=True).click()
        await page.get_by_text("Withdraw the request").first.click()
        await page.get_by_label("Reason").fill("Wrong company.")
        await button(page, "Withdraw the request").click()
        await expect(page.get_by_role("status").first).to_contain_text("The request is withdrawn.")
    assert served_partner_site.actions == [("withdraw", "Wrong company.")]


async def test_domain_follows_the_email_address_until_it_is_edited(
    served_partner_site: PartnerSite, new_page: OpenPage
) -> None:
    async with new_page() as page:
        await page.goto(f"{served_partner_site.url}/requests/new")
        email, domain = page.get_by_label("Customer email"), page.get_by_label("Account domain")
        await email.press_sequentially("ada@acme.exa")
        await expect(domain).to_have_value("acme.exa")
        await email.press_sequentially("mple")
        await expect(domain).to_have_value("acme.example")
        await domain.fill("group.example")
        await email.fill("bo@acme.example")
        await expect(domain).to_have_value("group.example")
        await domain.fill("")
        await email.fill("cy@other.example")
        await expect(domain).to_have_value("other.example")


@pytest.mark.parametrize("again", ["double click", "back", "reload"])
async def test_sending_twice_creates_one_request(
    served_partner_site: PartnerSite, new_page: OpenPage, again: str
) -> None:
    async with new_page() as page:
        await page.goto(f"{served_partner_site.url}/requests/new")
        await page.get_by_label("Account name").fill("Acme")
        await page.get_by_label("Customer email").fill("ada@acme.example")
        await button(page, "Review Request").click()
        send = button(page, "Send Request")
        await (send.dblclick() if again == "double click" else send.click())
        await expect(heading(page)).to_have_text("We have received your request")
        await served_partner_site.store_running_requests()
        await expect(heading(page)).to_have_text("Smart Account Request Complete")
        if again == "back":
            await page.go_back()
            await page.go_back()
            await expect(page.get_by_label("Account name")).to_have_value("Acme")
            await page.go_forward()
            await expect(heading(page)).to_have_text("Review Request")
            await button(page, "Send Request").click()
        elif again == "reload":
            await page.reload()
        await expect(heading(page)).to_have_text("Smart Account Request Complete")
    assert len(served_partner_site.temporal.running) == 1
    assert (await served_partner_site.store.listing.page(owner=None)).total == 1


@pytest.mark.parametrize("browser", ["desktop", "no scripts"])
@pytest.mark.parametrize("is_expired", [True, False])
async def test_form_that_is_sent_without_a_session(
    served_partner_site: PartnerSite, new_page: OpenPage, browser: str, is_expired: bool
) -> None:
    site = served_partner_site
    async with new_page(**BROWSERS[browser]) as page:
        await page.goto(f"{site.url}/requests/new")
        await page.get_by_label("Account name").fill("Acme")
        await page.get_by_label("Note to customer").fill("A long text.")
        if is_expired:
            long_ago = datetime.now(UTC) - timedelta(hours=2)
            async with site.store.engine.begin() as connection:
                await connection.execute(update(tables.sessions).values(last_used_at=long_ago))
        else:
            site.sign_out()
        await button(page, "Review Request").click()
        await expect(heading(page)).to_have_text("You are no longer signed in")
        link = await page.get_by_role("link", name="Sign in again").get_attribute("href")
        await site.sign_in(PAT)  # in another tab
        if is_expired:
            assert link
            await page.goto(site.url + parse_qs(urlsplit(link).query)["next"][0])
        else:
            await button(page, "Continue").click()
        await expect(page.get_by_text("You have signed in again")).to_be_visible()
        await expect(page.get_by_label("Note to customer")).to_have_value("A long text.")
        await page.get_by_label("Customer email").fill("ada@acme.example")
        assert not site.temporal.running
        await button(page, "Review Request").click()
        await expect(heading(page)).to_have_text("Review Request")
        await page.go_back()
        await expect(page.get_by_label("Customer email")).to_have_value("ada@acme.example")


@pytest.mark.parametrize("browser", ["desktop", "no scripts"])
async def test_result_of_an_action_is_shown_beside_it(
    served_partner_site: PartnerSite, new_page: OpenPage, browser: str
) -> None:
    await served_partner_site.add_request(pat_request())
    async with new_page(**BROWSERS[browser]) as page:
        await page.goto(f"{served_partner_site.url}{ACME_PAGE}")
        await page.get_by_text("Replace the approver").first.click()
        await page.get_by_label("New approver").fill("eve@")
        await button(page, "Replace the approver").click()
        await expect(page.get_by_role("alert")).to_be_focused()
        await expect(page.get_by_label("New approver")).to_have_value("eve@")
        await page.get_by_label("New approver").fill("eve@acme.example")
        served_partner_site.temporal.error = Rejected("Too many activation emails in a day.")
        await button(page, "Replace the approver").click()
        await expect(page.locator("#replace-approver")).to_contain_text(
            "Too many activation emails"
        )
        served_partner_site.temporal.error = Unavailable("No answer yet.")
        await button(page, "Replace the approver").click()
        await expect(page.locator("#replace-approver")).to_contain_text("No answer yet.")
        served_partner_site.temporal.error = None
        await button(page, "Replace the approver").click()
        await expect(page.get_by_role("status").first).to_contain_text(
            "to the new approver is on its way"
        )
        await page.get_by_text("Send the activation email again").click()
        await button(page, "Send it again").click()
        await expect(page.get_by_role("status").first).to_contain_text("is on its way")
        url = (
            f"{served_partner_site.url}{ACME_PAGE}?run={await only_request_id(served_partner_site)}"
        )
        await expect(page).to_have_url(url)
        for _ in range(3):  # the pages with an error cannot be opened without scripts
            if browser == "desktop":
                await page.go_back()
                await expect(heading(page)).to_have_text("Acme Networks")
    assert served_partner_site.actions == [
        ("replace-approver", "eve@acme.example"),
        ("resend", None),
    ]


async def only_request_id(partner_site: PartnerSite) -> str:
    [item] = (await partner_site.store.listing.page(owner=None)).items
    return item.request.id


async def test_keyboard_alone_with_a_visible_focus(
    served_partner_site: PartnerSite, new_page: OpenPage
) -> None:
    async def tab_to(name: str) -> None:
        await page.wait_for_load_state()  # the stylesheet sets the outline
        for _ in range(30):
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            assert await focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
            label = await focused.evaluate("e => e.labels?.[0]?.innerText ?? e.innerText")
            if label.startswith(name):
                return
        raise AssertionError(f"the Tab key does not reach {name}")

    async with new_page() as page:
        await page.goto(f"{served_partner_site.url}/requests/new")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to main content")).to_be_in_viewport()
        await page.keyboard.press("Enter")
        for name, value in [("Account name", "Acme"), ("Customer email", "ada@acme")]:
            await tab_to(name)
            await page.keyboard.type(value)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_focused()
        await tab_to("Customer email")
        await page.keyboard.press("Enter")  # on the link in the summary of errors
        await expect(page.get_by_label("Customer email")).to_be_focused()
        await page.keyboard.press("End")
        await page.keyboard.type(".example")
        await page.keyboard.press("Enter")
        await expect(heading(page)).to_have_text("Review Request")
        await tab_to("Send Request")
        await page.keyboard.press("Enter")
        await expect(heading(page)).to_have_text("We have received your request")
        await served_partner_site.store_running_requests()
        await expect(heading(page)).to_have_text("Smart Account Request Complete")
        await tab_to("Follow the request")
        await page.keyboard.press("Enter")
        await expect(heading(page)).to_have_text("Acme")
        await tab_to("Send the activation email again")
        await page.keyboard.press("Space")
        await tab_to("Send it again")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status").first).to_contain_text("is on its way")
    assert served_partner_site.actions == [("resend", None)]


async def test_long_words_fit_the_screen(
    served_partner_site: PartnerSite, new_page: OpenPage
) -> None:
    domain = f"{'a' * 60}.{'b' * 60}.example"
    request = pat_request(
        domain,
        account_name="W" * 120,
        customer_email=f"{'m' * 64}@{domain}",
        note_to_customer="x" * 1024,
        user_emails=(f"{'n' * 64}@{domain}",),
    )
    await served_partner_site.add_request(request)
    for viewport in ({"width": 390, "height": 844}, {"width": 1280, "height": 900}):
        async with new_page(viewport=viewport) as page:
            for path in ("/requests", f"/requests/smart-account-{domain}"):
                await page.goto(served_partner_site.url + path)
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert width == viewport["width"]
