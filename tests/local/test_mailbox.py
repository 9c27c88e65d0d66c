import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage

import aiosmtplib
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from playwright.async_api import Page

from smart_accounts.local.mailbox import CAPACITY, MAX_EMAIL_BYTES, Mailbox, ReceivedEmail
from smart_accounts.local.mailbox_server import serve_mailbox
from tests.support.browser import OpenPage
from tests.support.looks import look
from tests.support.ports import stack_ports


@dataclass(frozen=True)
class RunningMailbox:
    smtp_port: int
    url: str
    web: httpx.AsyncClient

    async def send(self, email: EmailMessage | bytes, to: str = "ada@harbour.example") -> str:
        """Send the email over SMTP. Return its ID in the mailbox."""
        async with aiosmtplib.SMTP(
            hostname="127.0.0.1", port=self.smtp_port, start_tls=False
        ) as smtp:
            await smtp.sendmail("no-reply@smart-accounts.example", [to], bytes(email))
        newest = (await self.web.get("/api/v1/messages")).json()["messages"][0]["ID"]
        assert isinstance(newest, str)
        return newest


@pytest.fixture
async def mailbox() -> AsyncIterator[RunningMailbox]:
    ports = stack_ports()
    url = f"http://127.0.0.1:{ports['MAILBOX_PORT']}"
    async with (
        serve_mailbox(ports["SMTP_PORT"], ports["MAILBOX_PORT"]),
        httpx.AsyncClient(base_url=url) as web,
    ):
        yield RunningMailbox(ports["SMTP_PORT"], url, web)


@pytest.fixture
async def page(new_page: OpenPage) -> AsyncIterator[Page]:
    async with new_page() as opened:
        yield opened


def new_email(subject: str = "Please accept", html: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Smart Accounts <no-reply@smart-accounts.example>"
    message["To"] = "Ada Löw <ada@harbour.example>"
    message["Subject"] = subject
    message["Message-ID"] = "<one@smart-accounts.example>"
    message["X-Smart-Account-Mail"] = "activation"
    message.set_content("Grüße,\n\nfollow http://127.0.0.1/activate/x")
    if html:
        message.add_alternative(html, subtype="html")
    return message


async def test_email_is_shown_as_it_was_sent(mailbox: RunningMailbox) -> None:
    email_id = await mailbox.send(new_email("Bitte bestätigen", "<p>Grüße</p>"))

    listed = (await mailbox.web.get("/api/v1/messages")).json()
    assert listed["total"] == 1
    assert listed["messages"][0] == {
        "ID": email_id,
        "MessageID": "one@smart-accounts.example",
        "From": {"Name": "Smart Accounts", "Address": "no-reply@smart-accounts.example"},
        "To": [{"Name": "Ada Löw", "Address": "ada@harbour.example"}],
        "Bcc": [],
        "Subject": "Bitte bestätigen",
        "Created": listed["messages"][0]["Created"],
        "Size": listed["messages"][0]["Size"],
        "Snippet": "Grüße, follow http://127.0.0.1/activate/x",
    }
    assert datetime.fromisoformat(listed["messages"][0]["Created"]).tzinfo == UTC

    message = (await mailbox.web.get(f"/api/v1/message/{email_id}")).json()
    assert message["Text"] == "Grüße,\n\nfollow http://127.0.0.1/activate/x\n"
    assert message["HTML"] == "<p>Grüße</p>\n"
    headers = (await mailbox.web.get(f"/api/v1/message/{email_id}/headers")).json()
    assert headers["X-Smart-Account-Mail"] == ["activation"]


async def test_newest_email_is_listed_first(mailbox: RunningMailbox) -> None:
    for subject in ("first", "second", "third"):
        await mailbox.send(new_email(subject))

    listed = (await mailbox.web.get("/api/v1/messages")).json()["messages"]
    assert [each["Subject"] for each in listed] == ["third", "second", "first"]
    page = (await mailbox.web.get("/")).text
    assert page.index("third") < page.index("second") < page.index("first")


async def test_unknown_email_is_not_found(mailbox: RunningMailbox) -> None:
    for path in ("/view/no", "/view/no.html", "/api/v1/message/no", "/api/v1/message/no/headers"):
        assert (await mailbox.web.get(path)).status_code == 404


async def test_envelope_recipient_is_shown_if_the_headers_hide_it(mailbox: RunningMailbox) -> None:
    email_id = await mailbox.send(new_email(), to="eve@meadow.example")

    message = (await mailbox.web.get(f"/api/v1/message/{email_id}")).json()
    assert message["Bcc"] == [{"Name": "", "Address": "eve@meadow.example"}]
    assert "eve@meadow.example" in (await mailbox.web.get(f"/view/{email_id}")).text


def test_oldest_emails_are_deleted_when_the_mailbox_is_full() -> None:
    mailbox = Mailbox()
    for number in range(CAPACITY + 2):
        mailbox.add(b"Subject: %d\r\n\r\n" % number, ())

    subjects = [each.header("Subject") for each in mailbox]
    assert subjects == [str(number) for number in range(CAPACITY + 1, 1, -1)]


@given(st.binary())
@example(b"Subject: =?raw-unicode-escape?q?\\ud800?=\r\n\r\n")
@example(b"Subject: =?nonsense?q?x?=\r\nFrom: \xff <\xfe\r\n\r\n")
@example(b"Subject: =?utf-8?q?=ff?=\r\nTo: =?utf-8?b?=F?= <\r\n\r\n")
@example(b"Content-Type: text/plain; charset=raw-unicode-escape\r\n\r\n\\ud800")
@example(b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xff")
@example(b"Content-Type: text/html; charset=undefined\r\n\r\nx")
@example(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n--x\r\n--x--")
@example(b"Content-Type: message/rfc822\r\n\r\nContent-Type: text/html\r\n\r\nx")
def test_any_bytes_are_accepted_as_an_email(raw: bytes) -> None:
    email = ReceivedEmail("id", datetime.now(UTC), ("ada@harbour.example",), raw)

    json.dumps([email.details, email.headers], ensure_ascii=False).encode()


async def test_foreign_host_name_is_rejected(mailbox: RunningMailbox) -> None:
    response = await mailbox.web.get("/api/v1/messages", headers={"Host": "rebound.example"})
    assert response.status_code == 400


async def test_mailbox_listens_on_loopback_only(mailbox: RunningMailbox) -> None:
    for port in (mailbox.smtp_port, int(mailbox.url.rpartition(":")[2])):
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(OSError):  # noqa: PT011, the error depends on the system
            socket.create_connection(("127.0.0.2", port), timeout=2)


async def test_too_large_email_is_refused(mailbox: RunningMailbox) -> None:
    with pytest.raises(aiosmtplib.SMTPResponseException) as error:
        await mailbox.send(b"Subject: big\r\n\r\n" + b"x" * MAX_EMAIL_BYTES)
    assert error.value.code == 552


@asynccontextmanager
async def web_server(requests: list[str]) -> AsyncIterator[str]:
    """Start a foreign site that records each request and returns a page with a script."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        body = b"<!doctype html><title>-</title><script>document.title = 'works'</script>"
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + body
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def hostile_html(site: str) -> str:
    return f"""<!doctype html><html><head>
        <meta http-equiv="refresh" content="0; url={site}/refresh">
        <link rel="stylesheet" href="{site}/style"><base href="{site}/"></head>
        <body onload="fetch('{site}/onload')">
        <img src="{site}/image" onerror="fetch('{site}/error')">
        <script>fetch("{site}/script"); top.location = "{site}/top"</script>
        <script>document.title = "ran"</script>
        <iframe src="{site}/frame"></iframe><object data="{site}/object"></object>
        <form id="f" action="{site}/form"><button>Accept</button></form>
        <script>document.getElementById("f").submit()</script>
        <svg><script href="{site}/svg"></script></svg></body></html>"""


async def test_hostile_html_runs_loads_and_submits_nothing(
    mailbox: RunningMailbox, page: Page
) -> None:
    requests: list[str] = []
    async with web_server(requests) as site:
        hostile = f"{hostile_html(site)}<script>fetch('{site}/text')</script>"
        subject = f"<img src={site}/subject onerror=fetch('{site}/subject')>"
        email_id = await mailbox.send(new_email(subject, hostile))
        for path in ("/", f"/view/{email_id}", f"/view/{email_id}.html"):
            await page.goto(mailbox.url + path)
            await page.wait_for_timeout(300)
            assert page.url == mailbox.url + path
            assert await page.title() != "ran"
        await page.get_by_role("button", name="Accept").click()
        await page.wait_for_timeout(300)
        assert requests == []


async def test_markup_in_an_email_is_escaped_on_our_pages(
    mailbox: RunningMailbox, page: Page
) -> None:
    requests: list[str] = []
    async with web_server(requests) as site:
        markup = f"<img src={site}/image>"
        email = new_email(f"Subject {markup}", "<p>Hello</p>")
        email.replace_header("To", Address(markup, addr_spec="ada@harbour.example"))
        text_part = email.get_body(("plain",))
        assert isinstance(text_part, EmailMessage)
        text_part.set_content(f"Text {markup}")
        email_id = await mailbox.send(email)
        for path in ("/", f"/view/{email_id}"):
            await page.goto(mailbox.url + path)
            assert await page.locator("img").count() == 0
            text = await page.locator("main").inner_text()
            assert f"Subject {markup}" in text
            assert f"Text {markup}" in text
            # Even markup that was not escaped must load nothing.
            await page.evaluate(
                "html => document.body.insertAdjacentHTML('beforeend', html)", markup
            )
            await page.wait_for_timeout(300)
        sandbox = await page.locator("iframe").get_attribute("sandbox")
        assert sandbox == "allow-popups allow-popups-to-escape-sandbox"
        assert requests == []


async def test_link_opens_in_a_new_tab_without_a_referrer(
    mailbox: RunningMailbox, page: Page
) -> None:
    requests: list[str] = []
    async with web_server(requests) as site:
        email_id = await mailbox.send(
            new_email(html=f"<html><a href='{site}/activate'>Look</a></html>")
        )
        await page.goto(f"{mailbox.url}/view/{email_id}")
        async with page.expect_popup() as popup:
            await page.frame_locator("iframe").get_by_role("link", name="Look").click()
        opened = await popup.value
        await opened.wait_for_load_state()
        assert await opened.title() == "works"
    assert requests[0].startswith("GET /activate ")
    assert "referer" not in requests[0].lower()


async def test_new_emails_appear_and_keep_the_focus(mailbox: RunningMailbox, page: Page) -> None:
    await page.goto(mailbox.url)
    await page.get_by_text("No email yet").wait_for()

    email_id = await mailbox.send(new_email("Hello"))
    link = page.get_by_role("link", name="Hello")
    await link.wait_for(timeout=20_000)
    await link.focus()
    await mailbox.send(new_email("World"))
    await page.get_by_role("link", name="World").wait_for(timeout=20_000)

    await page.keyboard.press("Enter")  # follows the link that had the focus before
    await page.wait_for_url(f"{mailbox.url}/view/{email_id}")


LONG = new_email("long" * 100, f"<p>{'wide' * 100}</p>")
PAGES: dict[str, tuple[str, list[EmailMessage]]] = {
    "empty": ("/", []),
    "list": ("/", [new_email(), LONG]),
    "email": ("/view/{}", [LONG]),
    "text-only": ("/view/{}", [new_email()]),
    "not-found": ("/view/none", []),
    "previews": ("/preview", []),
    "preview": ("/preview/activation-customer", []),
}


@pytest.mark.parametrize("name", PAGES)
async def test_page_is_accessible_small_and_self_contained(
    mailbox: RunningMailbox, page_to_look_at: OpenPage, name: str
) -> None:
    path, emails = PAGES[name]
    ids = [await mailbox.send(email) for email in emails]
    async with page_to_look_at() as page:
        await page.goto(mailbox.url + path.format(*ids), wait_until="networkidle")
        await look(page, f"mailbox-{name}")
