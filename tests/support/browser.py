"""One headless Chromium for each process that runs tests; each page has a context of its own."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

# Both are Debian packages. The shell needs 0.4 of the full browser's CPU time to open a page.
PROGRAM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PATIENCE_SECONDS = 20
"""How long to wait until a page shows what is expected, on a busy machine."""

OpenPage = Callable[..., AbstractAsyncContextManager[Page]]


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE_SECONDS * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
def new_page(chromium: Browser) -> OpenPage:
    """Open a page with the options of a browser context, such as ``viewport``."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[Page]:
        context = await chromium.new_context(**options)
        try:
            yield await context.new_page()
        finally:
            await context.close()

    return opened
