from collections.abc import AsyncIterator

import httpx
import pytest

from smart_accounts.contract.messages import EmailKind
from smart_accounts.local.mailbox_server import serve_mailbox
from smart_accounts.local.previews import previews
from tests.support.browser import OpenPage
from tests.support.looks import look, show
from tests.support.ports import stack_ports


@pytest.fixture
async def url() -> AsyncIterator[str]:
    ports = stack_ports()
    async with serve_mailbox(ports["SMTP_PORT"], ports["MAILBOX_PORT"]):
        yield f"http://127.0.0.1:{ports['MAILBOX_PORT']}"


def test_every_kind_of_email_has_a_preview() -> None:
    emails = previews()
    assert {email.header("X-Smart-Account-Mail") for email in emails.values()} == set(EmailKind)
    assert all(email.text and email.html for email in emails.values())


async def test_every_preview_has_a_page(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        index = (await http.get("/preview")).text
        for name in previews():
            assert f'src="/preview/{name}.html"' in index
            page = await http.get(f"/preview/{name}")
            assert (page.status_code, "Text part" in page.text) == (200, True)
            html = await http.get(f"/preview/{name}.html")
            assert "harbour" in html.text
            assert "sandbox" in html.headers["content-security-policy"]
        assert (await http.get("/preview/none")).status_code == 404
        assert (await http.get("/preview/none.html")).status_code == 404
        assert "/preview" in (await http.get("/")).text


@pytest.mark.parametrize("name", previews())
async def test_email_is_accessible_and_fits_the_screen(
    name: str, page_to_look_at: OpenPage
) -> None:
    request = httpx.Request("GET", "http://mail.example/")
    response = httpx.Response(200, html=previews()[name].html, request=request)
    async with httpx.AsyncClient() as unused, page_to_look_at() as page:
        await show(page, response, unused)
        await look(page, f"mail-{name}")
