"""Every kind of mail can be looked at in the local stack, as it is really made."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import async_playwright

from smart_accounts.local.mailbox_server import serve_mailbox
from smart_accounts.local.plan import free_ports
from smart_accounts.local.previews import previews
from smart_accounts.messages import EmailKind

OUTPUT = Path(__file__).parents[2] / "test-output"
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
WIDTHS = {"desk": 1000, "phone": 390}


@pytest.fixture
async def url() -> AsyncIterator[str]:
    ports = free_ports()
    async with serve_mailbox(ports["SMTP_PORT"], ports["MAILBOX_PORT"]):
        yield f"http://127.0.0.1:{ports['MAILBOX_PORT']}"


def test_there_is_one_of_each_kind() -> None:
    made = previews()
    assert {mail.header("X-Smart-Account-Mail") for mail in made.values()} == set(EmailKind)
    assert all(mail.text and mail.html for mail in made.values())


async def test_each_has_its_page(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        index = (await http.get("/preview")).text
        for name in previews():
            assert f'src="/preview/{name}.html"' in index
            page = await http.get(f"/preview/{name}")
            assert (page.status_code, "Text part" in page.text) == (200, True)
            html = await http.get(f"/preview/{name}.html")
            assert "Harbour Logistics" in html.text
            assert "sandbox" in html.headers["content-security-policy"]
        assert (await http.get("/preview/none")).status_code == 404
        assert (await http.get("/preview/none.html")).status_code == 404
        assert "/preview" in (await http.get("/")).text


async def test_they_are_looked_at_in_a_browser(url: str) -> None:
    OUTPUT.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=CHROMIUM
        )
        page = await browser.new_page()
        await page.goto(f"{url}/preview")
        assert (await Axe().run(page)).violations_count == 0
        for name in previews():
            await page.goto(f"{url}/preview/{name}.html")
            for size, width in WIDTHS.items():
                await page.set_viewport_size({"width": width, "height": 800})
                for scheme in ("light", "dark"):
                    await page.emulate_media(color_scheme=scheme)
                    shot = OUTPUT / f"mail-{name}-{size}-{scheme}.png"
                    await page.screenshot(path=shot, full_page=True)
                assert await page.evaluate("document.documentElement.scrollWidth") == width
        await browser.close()
