"""The activation page in a browser: as a person uses it, and as an email scanner does."""

from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from smart_accounts.contract.messages import Status
from smart_accounts.errors import Unavailable
from tests.support.browser import OpenPage
from tests.support.site import Site

BUTTON = "Accept the account"


async def open_foreign_page(page: Page, url: str, html: str) -> None:
    """Open a page at any address. Its server is not asked."""

    async def fulfill(route: Route) -> None:
        await route.fulfill(body=html, content_type="text/html")

    await page.route(url, fulfill)
    await page.goto(url)
    await page.unroute(url)


@pytest.mark.parametrize("scripts", [True, False])
async def test_box_and_button_lead_to_the_active_account(
    served_site: Site, new_page: OpenPage, scripts: bool
) -> None:
    token = await served_site.add_request()
    async with new_page(java_script_enabled=scripts) as page:
        await page.goto(f"{served_site.url}/activate/{token}")
        await page.get_by_role("checkbox", name="I am authorised").check()
        await page.get_by_role("button", name=BUTTON).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "We have received your acceptance"
        )
        assert page.url == f"{served_site.url}/activate/{token}"
        await served_site.update_request(status=Status.ACTIVE)
        # The page reloads itself without a click or a script.
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "Your Smart Account is active"
        )
    assert [name for name, _ in served_site.temporal.signals] == ["accepted"]


async def test_decline_with_a_reason(served_site: Site, new_page: OpenPage) -> None:
    token = await served_site.add_request()
    async with new_page() as page:
        await page.goto(f"{served_site.url}/activate/{token}")
        await page.get_by_label("Reason").fill("x" * 1025)
        await page.get_by_role("button", name="Decline").click()
        await expect(page.get_by_text("must have at most 1024 characters")).to_be_visible()
        await expect(page.get_by_label("Reason")).to_be_focused()
        await expect(page.get_by_label("Reason")).to_have_value("x" * 1025)
        await page.get_by_label("Reason").fill("Not us.\nSorry.")
        await page.get_by_role("button", name="Decline").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "We have received your answer"
        )
        await page.go_back()  # to the page with the error
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "We have received your answer"
        )
        await served_site.update_request(status=Status.DECLINED, reason="Not us.\nSorry.")
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "You declined the Smart Account"
        )
    assert served_site.temporal.signals[0][1]["reason"] == "Not us.\nSorry."


async def test_keyboard_alone_with_a_visible_focus(served_site: Site, new_page: OpenPage) -> None:
    token = await served_site.add_request()
    async with new_page() as page:
        await page.goto(f"{served_site.url}/activate/{token}")
        for element in [
            page.get_by_role("checkbox", name="I am authorised"),
            page.get_by_role("button", name=BUTTON),
        ]:
            await page.keyboard.press("Tab")
            await expect(element).to_be_focused()
            await expect(element).to_have_css("outline-style", "solid")
            await page.keyboard.press("Space")  # checks the box, then presses the button
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "We have received your acceptance"
        )


async def test_browser_requires_the_box(served_site: Site, new_page: OpenPage) -> None:
    token = await served_site.add_request()
    async with new_page() as page:
        await page.goto(f"{served_site.url}/activate/{token}")
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.method))
        await page.get_by_role("button", name=BUTTON).click()
        await expect(page.get_by_role("checkbox", name="I am authorised")).to_be_focused()
    assert "POST" not in requested


async def test_scanner_that_opens_links_and_runs_scripts_changes_nothing(
    served_site: Site, new_page: OpenPage
) -> None:
    token = await served_site.add_request()
    before = await served_site.all_rows()
    async with new_page() as page:
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        await page.goto(f"{served_site.url}/activate/{token}", wait_until="networkidle")
        for link in await page.locator("a").all():
            await link.hover()
    assert problems == []
    assert {url.removeprefix(served_site.url) for url in requested} <= {
        f"/activate/{token}",
        "/static/style.css",
        "/static/times.js",
        "/static/icon.svg",
    }
    assert not served_site.temporal.signals
    assert await served_site.all_rows() == before


async def test_another_site_cannot_answer_for_the_customer(
    served_site: Site, new_page: OpenPage
) -> None:
    token = await served_site.add_request()
    target = f"{served_site.url}/activate/{token}"
    async with new_page() as page:
        for policy in ["unsafe-url", "no-referrer"]:
            html = (
                f'<meta name="referrer" content="{policy}"><form method="post" action="{target}">'
                '<input name="agree" value="yes"><button>Win</button></form>'
            )
            await open_foreign_page(page, "http://evil.example/", html)
            await page.get_by_role("button").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(
                "Please use the form on our own page"
            )
    assert not served_site.temporal.signals


async def test_page_cannot_be_framed(served_site: Site, new_page: OpenPage) -> None:
    token = await served_site.add_request()
    html = f'<iframe src="{served_site.url}/activate/{token}"></iframe>'
    async with (
        new_page() as page,
        page.expect_console_message(lambda message: "frame-ancestors" in message.text),
    ):
        # On our own address, because other sites may not load local addresses at all.
        await open_foreign_page(page, f"{served_site.url}/frame", html)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_narrow_screen_does_not_scroll_sideways(
    served_site: Site, new_page: OpenPage, scheme: str
) -> None:
    long_values: dict[str, Any] = {
        "account_name": "W" * 120,
        "account_domain": f"{'a' * 60}.{'b' * 60}.example",
        "note_to_customer": "x" * 1024,
        "requester_name": "N" * 120,
        "customer_email": f"{'m' * 64}@{'d' * 60}.example",
    }
    size = {"width": 390, "height": 800}
    async with new_page(viewport=size, color_scheme=scheme) as page:
        states: list[dict[str, Any]] = [
            {},
            {"signalled": "accepted"},
            {"status": Status.ACTIVE},
            {"status": Status.LAPSED},
        ]
        for state in states:
            await page.goto(
                f"{served_site.url}/activate/{await served_site.add_request(**long_values | state)}"
            )
            assert await page.evaluate("document.documentElement.scrollWidth") == 390
        await page.goto(f"{served_site.url}/activate/{await served_site.add_request()}")
        await expect(page.get_by_role("blockquote").first).to_have_css("white-space", "pre-line")
        for button in await page.get_by_role("button").all():
            box = await button.bounding_box()
            assert box
            assert box["height"] >= 44
        rgb = await page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert (sum(rgb) > 3 * 128) is (scheme == "light")


async def test_one_click_sends_the_answer_again(served_site: Site, new_page: OpenPage) -> None:
    token = await served_site.add_request()
    async with new_page() as page:
        await page.goto(f"{served_site.url}/activate/{token}")
        await page.get_by_label("Reason").fill('Two\nlines "quoted"')
        served_site.temporal.error = Unavailable("no")
        await page.get_by_role("button", name="Decline").click()
        await page.get_by_role("button", name="Send again").click()
        await expect(page.get_by_role("button", name="Send again")).to_be_visible()
        served_site.temporal.error = None
        await page.get_by_role("button", name="Send again").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "We have received your answer"
        )
    assert served_site.temporal.signals[0][1]["reason"] == 'Two\nlines "quoted"'
