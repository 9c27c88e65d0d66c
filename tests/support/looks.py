"""What is looked at on each page in a real browser: on a desk by day and on a phone by night.

Screenshots are kept in ``test-output/``.
"""

from pathlib import Path
from typing import Any, Literal

import httpx
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Route, ViewportSize

OUTPUT = Path(__file__).parents[2] / "test-output"
# Sizes change only the layout and schemes only the colours, so each is looked at once.
VIEWS: list[tuple[str, ViewportSize, Literal["light", "dark"]]] = [
    ("desk", {"width": 1280, "height": 900}, "light"),
    ("phone", {"width": 390, "height": 844}, "dark"),
]
LARGEST_PAGE = 60_000  # bytes, with all that it loads; what it frames is a page of its own
WEIGHTS = """Object.fromEntries(
    ["navigation", "resource"].flatMap((type) => performance.getEntriesByType(type))
        .filter((entry) => entry.initiatorType !== "iframe")
        .map((entry) => [entry.name, entry.encodedBodySize]))"""


async def look(page: Page, name: str) -> None:
    """See that the page, as it is now, is accessible, fits the screen, is small and all ours."""
    OUTPUT.mkdir(exist_ok=True)
    for size, viewport, scheme in VIEWS:
        await page.set_viewport_size(viewport)
        await page.emulate_media(color_scheme=scheme)
        await page.screenshot(path=OUTPUT / f"{name}-{size}.png", full_page=True)
        found = await Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width == viewport["width"], f"scrolls sideways: {width}"
    weights: dict[str, int] = await page.evaluate(WEIGHTS)
    ours = page.url[: page.url.index("/", len("https://"))]
    assert all(url.startswith(f"{ours}/") for url in weights), weights
    assert 0 < sum(weights.values()) <= LARGEST_PAGE, weights


async def stays(route: Route) -> None:
    """A page that looks again by itself would go while it is being looked at."""
    if route.request.resource_type != "document":
        await route.continue_()
        return
    answer = await route.fetch(max_redirects=0)
    headers = {name: value for name, value in answer.headers.items() if name != "refresh"}
    await route.fulfill(response=answer, headers=headers)


async def show(page: Page, answer: httpx.Response, http: httpx.AsyncClient) -> None:
    """Open the answer that ``http`` had; what the page loads is asked for there too."""

    async def give(route: Route) -> None:
        url = route.request.url
        given = answer if url == str(answer.request.url) else await http.get(url)
        headers: Any = {name: value for name, value in given.headers.items() if name != "refresh"}
        await route.fulfill(status=given.status_code, headers=headers, body=given.content)

    await page.route("**/*", give)
    await page.goto(str(answer.request.url))
