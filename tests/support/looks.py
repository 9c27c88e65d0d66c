"""Checks of how a page looks in a real browser: on a desk in light and on a phone in dark colours.

``SCREENSHOTS=1`` keeps a screenshot of each page in ``test-output/``.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from playwright.async_api import Browser, ConsoleMessage, Error, Page, Route, ViewportSize

from smart_accounts.local.previews import RIGHT_TO_LEFT
from tests.support.browser import OpenPage

OUTPUT = Path(__file__).parents[2] / "test-output"
# The size changes only the layout, and the scheme changes only the colours. Two views therefore
# check both sizes and both schemes.
VIEWS: list[tuple[str, ViewportSize, Literal["light", "dark"], dict[str, Any]]] = [
    # Only the rules whose result depends on the size or on the colours.
    (
        "phone",
        {"width": 390, "height": 844},
        "dark",
        {"runOnly": ["color-contrast", "target-size", "scrollable-region-focusable"]},
    ),
    ("desk", {"width": 1280, "height": 900}, "light", {}),
]
# In bytes, with everything that the page loads. A framed page counts separately.
LARGEST_PAGE = 60_000
WEIGHTS = """Object.fromEntries(
    ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type))
        .filter((entry) => entry.initiatorType !== "iframe")
        .map((entry) => [entry.name, entry.encodedBodySize]))"""

# A name that begins in Hebrew or Arabic is laid out by itself: its first character is to the right
# of its last one, whatever stands beside the name. The subject of an email is only text, so a name
# in one is laid out with the words beside it. Only the mailbox shows subjects.
NAMES = [
    RIGHT_TO_LEFT.account_name,
    RIGHT_TO_LEFT.requester.name,
    RIGHT_TO_LEFT.requester.company,
]
LOOK = """async ([options, names]) => {
    if (!globalThis.axe) defineAxe();
    const { violations } = await axe.run(options);
    const reordered = [];
    const nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (nodes.nextNode()) {
        const node = nodes.currentNode;
        if (node.parentElement.closest(".emails, article h2")) continue;
        const place = (offset) => {
            const range = document.createRange();
            range.setStart(node, offset);
            range.setEnd(node, offset + 1);
            return range.getBoundingClientRect();
        };
        for (const name of names.filter((name) => node.data.includes(name))) {
            const offset = node.data.indexOf(name);
            const first = place(offset), last = place(offset + name.length - 1);
            if (first.top === last.top && first.left < last.left) reordered.push(node.data);
        }
    }
    return { violations, reordered, width: document.documentElement.scrollWidth };
}"""


@pytest.fixture(scope="session")
def unused_pages() -> list[Page]:
    """The page that the last test looked at. Another page would compile axe again."""
    return []


@pytest.fixture
def page_to_look_at(chromium: Browser, unused_pages: list[Page]) -> OpenPage:
    """Open a page without cookies, whose scripts must not fail.

    A page of a test that failed is not used again.
    """

    @asynccontextmanager
    async def opened() -> AsyncIterator[Page]:
        page = unused_pages.pop() if unused_pages else await _new_page(chromium)
        errors: list[str] = []

        def keep_exception(error: Error) -> None:
            errors.append(str(error))

        def keep_message(message: ConsoleMessage) -> None:
            # A browser also logs each response with a status of 400 or more as an error.
            if message.type == "error" and "status of" not in message.text:
                errors.append(message.text)

        page.on("pageerror", keep_exception)
        page.on("console", keep_message)
        yield page
        assert errors == []
        page.remove_listener("pageerror", keep_exception)
        page.remove_listener("console", keep_message)
        await page.unroute_all(behavior="ignoreErrors")
        await page.goto("about:blank")
        await page.context.clear_cookies()
        unused_pages.append(page)

    return opened


async def _new_page(chromium: Browser) -> Page:
    _, viewport, scheme, _ = VIEWS[-1]
    context = await chromium.new_context(viewport=viewport, color_scheme=scheme)
    page = await context.new_page()
    await page.add_init_script(f"globalThis.defineAxe = () => {{ {AXE_SCRIPT} }};")
    return page


async def look(page: Page, name: str) -> None:
    """Check the page as it is now.

    It must be accessible, fit the screen, be small, and load nothing from other sites. Names keep
    the direction of their script.
    """
    await page.wait_for_load_state()  # after a click, until its style sheets are there
    for size, viewport, scheme, rules in VIEWS:
        await page.set_viewport_size(viewport)
        await page.emulate_media(color_scheme=scheme)
        await screenshot(page, f"{name}-{size}")
        options = {"resultTypes": ["violations"]} | rules
        seen = await page.evaluate(LOOK, [options, NAMES])
        assert seen["violations"] == [], AxeResults(seen).generate_report()
        assert seen["reordered"] == []
        assert seen["width"] == viewport["width"], f"scrolls sideways: {seen['width']}"
    weights: dict[str, int] = await page.evaluate(WEIGHTS)
    site = page.url[: page.url.index("/", len("https://"))]
    assert all(url.startswith(f"{site}/") for url in weights), weights
    assert 0 < sum(weights.values()) <= LARGEST_PAGE, weights


async def screenshot(page: Page, name: str) -> None:
    """Save a picture of the page if ``SCREENSHOTS`` is set. It costs CPU time."""
    if "SCREENSHOTS" in os.environ:
        await page.screenshot(path=OUTPUT / f"{name}.png", full_page=True)


async def remove_refresh(route: Route) -> None:
    """Remove the Refresh header, because the page must not reload during the checks."""
    if route.request.resource_type != "document":
        await route.continue_()
        return
    response = await route.fetch(max_redirects=0)
    headers = {name: value for name, value in response.headers.items() if name != "refresh"}
    await route.fulfill(response=response, headers=headers)


async def show(page: Page, response: httpx.Response, http: httpx.AsyncClient) -> None:
    """Open a response that ``http`` received. Whatever else the page loads also comes from it."""

    async def fulfill(route: Route) -> None:
        url = route.request.url
        given = response if url == str(response.request.url) else await http.get(url)
        headers: Any = {name: value for name, value in given.headers.items() if name != "refresh"}
        await route.fulfill(status=given.status_code, headers=headers, body=given.content)

    await page.route("**/*", fulfill)
    await page.goto(str(response.request.url))
