"""One headless Chromium for each process that runs tests."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

# Both are Debian packages. To open a page, the headless shell needs 0.4 times the CPU time that
# the full browser needs.
PROGRAM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    # Because of the opener policy of our pages, Chromium would start a process for each of them.
    "--renderer-process-limit=1",
]
PATIENCE_SECONDS = 20
"""How long to wait until a page shows what is expected. A busy machine may be slow."""

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
    """Return a function that opens a page in a context of its own.

    It takes options of a browser context: ``viewport``.
    """

    @asynccontextmanager
    async def open_page(**options: Any) -> AsyncIterator[Page]:
        context = await chromium.new_context(**options)
        try:
            yield await context.new_page()
        finally:
            await context.close()

    return open_page
