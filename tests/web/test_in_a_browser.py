"""The pages in a real browser: as a person uses them, and as an email scanner does."""

from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from smart_accounts.contract.messages import Status
from smart_accounts.errors import Unavailable

BUTTON = "Accept the account"


async def opens(page: Page, url: str, html: str) -> None:
    """A page of someone else's, made up on the way to the browser."""

    async def answer(route: Route) -> None:
        await route.fulfill(body=html, content_type="text/html")

    await page.route(url, answer)
    await page.goto(url)
    await page.unroute(url)


@pytest.mark.parametrize("scripts", [True, False])
async def test_box_and_button_lead_to_activated(served: Any, new_page: Any, scripts: bool) -> None:
    token = await served.issue()
    async with new_page(java_script_enabled=scripts) as page:
        await page.goto(f"{served.url}/activate/{token}")
        await page.get_by_role("checkbox").check()
        await page.get_by_role("button", name=BUTTON).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "We have received your acceptance"
        )
        assert page.url == f"{served.url}/activate/{token}"
        await served.becomes(status=Status.ACTIVE)
        # Without a click and without a script: the page looks again by itself.
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "Your Smart Account is activated"
        )
    assert [name for name, _ in served.temporal.signals] == ["accepted"]


async def test_declining_with_a_reason(served: Any, new_page: Any) -> None:
    token = await served.issue()
    async with new_page() as page:
        await page.goto(f"{served.url}/activate/{token}")
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
        await served.becomes(status=Status.DECLINED, reason="Not us.\nSorry.")
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "You declined the Smart Account"
        )
    assert served.temporal.signals[0][1]["reason"] == "Not us.\nSorry."


async def test_by_keyboard_alone_with_the_focus_to_be_seen(served: Any, new_page: Any) -> None:
    token = await served.issue()
    async with new_page() as page:
        await page.goto(f"{served.url}/activate/{token}")
        for stop in [page.get_by_role("checkbox"), page.get_by_role("button", name=BUTTON)]:
            await page.keyboard.press("Tab")
            await expect(stop).to_be_focused()
            await expect(stop).to_have_css("outline-style", "solid")
            await page.keyboard.press("Space")  # ticks the box, then presses the button
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "We have received your acceptance"
        )


async def test_the_browser_asks_for_the_box_first(served: Any, new_page: Any) -> None:
    token = await served.issue()
    async with new_page() as page:
        await page.goto(f"{served.url}/activate/{token}")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.method))
        await page.get_by_role("button", name=BUTTON).click()
        await expect(page.get_by_role("checkbox")).to_be_focused()
    assert "POST" not in asked


async def test_a_scanner_that_opens_links_and_runs_scripts_changes_nothing(
    served: Any, new_page: Any
) -> None:
    token = await served.issue()
    before = await served.everything()
    async with new_page() as page:
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"{served.url}/activate/{token}", wait_until="networkidle")
        for link in await page.locator("a").all():
            await link.hover()
    assert problems == []
    assert {url.removeprefix(served.url) for url in asked} <= {
        f"/activate/{token}",
        "/static/style.css",
        "/static/icon.svg",
    }
    assert not served.temporal.signals
    assert await served.everything() == before


async def test_another_site_can_not_answer_for_the_customer(served: Any, new_page: Any) -> None:
    token = await served.issue()
    target = f"{served.url}/activate/{token}"
    async with new_page() as page:
        for policy in ["unsafe-url", "no-referrer"]:
            html = (
                f'<meta name="referrer" content="{policy}"><form method="post" action="{target}">'
                '<input name="agree" value="yes"><button>Win</button></form>'
            )
            await opens(page, "http://evil.example/", html)
            await page.get_by_role("button").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(
                "Please answer on our own page"
            )
    assert not served.temporal.signals


async def test_the_page_can_not_be_framed(served: Any, new_page: Any) -> None:
    token = await served.issue()
    html = f'<iframe src="{served.url}/activate/{token}"></iframe>'
    async with new_page() as page:
        refused = page.expect_console_message(lambda message: "frame-ancestors" in message.text)
        async with refused:
            # Beside the page itself: from afar the browser refuses local addresses anyway.
            await opens(page, f"{served.url}/frame", html)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_narrow_screen_shows_all_without_scrolling_sideways(
    served: Any, new_page: Any, scheme: str
) -> None:
    wide: dict[str, Any] = {
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
            await page.goto(f"{served.url}/activate/{await served.issue(**wide | state)}")
            assert await page.evaluate("document.documentElement.scrollWidth") == 390
        await page.goto(f"{served.url}/activate/{await served.issue()}")
        await expect(page.get_by_role("blockquote").first).to_have_css("white-space", "pre-line")
        for part in await page.get_by_role("button").all():
            box = await part.bounding_box()
            assert box["height"] >= 44
        luminance = await page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert (sum(luminance) > 3 * 128) is (scheme == "light")


async def test_an_answer_is_sent_again_with_one_click(served: Any, new_page: Any) -> None:
    token = await served.issue()
    async with new_page() as page:
        await page.goto(f"{served.url}/activate/{token}")
        await page.get_by_label("Reason").fill('Two\nlines "quoted"')
        served.temporal.fails = Unavailable("no")
        await page.get_by_role("button", name="Decline").click()
        await page.get_by_role("button", name="Send my answer again").click()
        await expect(page.get_by_role("button", name="Send my answer again")).to_be_visible()
        served.temporal.fails = None
        await page.get_by_role("button", name="Send my answer again").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(
            "We have received your answer"
        )
    assert served.temporal.signals[0][1]["reason"] == 'Two\nlines "quoted"'
