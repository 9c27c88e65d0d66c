"""Text that people or mail servers wrote becomes neither markup nor a link in an email."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from email import policy
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Email
from tests.support.emails import (
    ACTIVATION,
    DECLINED,
    EMAILS,
    EXPIRING,
    FOLLOW,
    LINK,
    REJECTED,
    REQUEST,
    SEVEN_DAYS_LEFT,
    SITE,
    UNDELIVERABLE,
    UNDELIVERED,
    Page,
    both_parts,
    compose,
    composer,
)

HOSTILE = (
    "<b>x</b><a href='https://evil.example/a?b=c#d'>ok</a> HTTPS://EVIL.example evil.example/x\n"
    "www.evil.example WWW.3com mailto:eve@evil.example eve@localhost evil。example evil｡example\n"
    "evil\uff0eexample/x evil\u2024example evil.\u200dexample https\uff1a//evil\n"
    "ada\uff20evil.example \\\\server\\share skype:eve TEL:+4912345\n"
    "e\u0301vil.рф/x evil。рф शिक्षा.भारत i❤.ws xn--e1a.xn--p1ai ftp://1.2.3.4/x 10.0.0.1/admin\n"
    '\\\\evil.example\\x file:///etc <script>alert(1)</script> " onload=alert(1) {{ 7 * 7 }} '
    "<!-- &#46; --> &lt;i&gt;"
)
HOSTILE_REQUEST = replace(
    REQUEST,
    account_name="Evil.example/login & eve@evil.example 🚀",
    requester_name="Eve https://evil.example/<i>",
    requester_company="www.evil.example 日本",
    note_to_customer=HOSTILE,
    note_to_added_users=HOSTILE,
    reason=HOSTILE,
    close_reason=HOSTILE,
    decided_by="eve@evil.example\u202e\x00\r\nBcc: eve@evil.example",
)


def clickable(text: str) -> Iterator[str]:
    """Return everything that an eager mail client would make clickable."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"(?<=[a-z0-9])\u3002|\u3002(?=[a-z0-9])", ".", text)
    text = re.sub("[\u200c\u200d]", "", text)
    rules = (
        r"\w+:[/\\]{2}\S*",
        r"(?:www|ftp)\.\S+",
        r"\b(?:mailto|tel|sms|skype):\S+",
        r"\\\\\w\S*",
        r"[^\s()<>\[\],]+@[^\s()<>\[\],]+",
        r"[^\s()<>@:/.\[\]]+(?:\.[^\s()<>@:/.\[\]]+)*\.[^\W\d_][^\s()<>@:/.,\[\]]+",
        r"\d+\.\d+\.\d+\.\d+",
    )
    for rule in rules:
        for found in re.finditer(rule, text, re.IGNORECASE):
            yield found[0]


@pytest.mark.parametrize("email", EMAILS, ids=lambda email: f"{email.kind}-{email.to}")
def test_written_text_is_neither_markup_nor_a_link(email: Email) -> None:
    undelivered = [UNDELIVERED.model_copy(update={"answer": HOSTILE})]
    mail = compose(email, HOSTILE_REQUEST, undelivered=undelivered)
    page = Page(mail.html)
    own_links = {LINK, FOLLOW, SITE.support_url}
    addresses = {*REQUEST.added_users, "ada@acme.example", "pat@partner.example"}
    allowed = addresses | {address.partition("@")[2] for address in addresses}
    for part in (mail.text, page.text):
        rest = part
        for link in own_links:
            rest = rest.replace(str(link), "")
        assert set(clickable(rest)) <= allowed
    assert set(clickable(mail.message["Subject"])) == set()
    assert page.links <= own_links
    assert not page.tags & {"b", "i", "script", "img", "link", "iframe", "form"}
    assert not page.attributes & {"src", "onload", "onerror", "background", "action", "srcset"}
    assert not re.search(r"@import|url\(", mail.html)


@pytest.mark.parametrize("email", EMAILS, ids=lambda email: f"{email.kind}-{email.to}")
def test_names_and_notes_keep_the_direction_of_their_script(email: Email) -> None:
    names: dict[str, Any] = {
        "account_name": "دار البحر 24!",
        "requester_name": "דנה (Levy)",
        "requester_company": "כהנא Ltd.",
        "decided_by": "דנה!",
    }
    notes: dict[str, Any] = dict.fromkeys(
        ("note_to_customer", "note_to_added_users", "reason"), "כדאי לדבר!"
    )
    mail = compose(email, replace(REQUEST, **names, **notes))
    page = Page(mail.html)
    text = " ".join(mail.text.split())
    for name in names.values():
        assert mail.html.count(f"<bdi>{name}</bdi>") == page.text.count(name)
        assert text.count(f"\u2068{name}\u2069") == text.count(name)
    assert names["account_name"] in mail.message["Subject"]
    assert not {"\u2068", "\u2069"} & set(mail.message["Subject"] + page.text)
    note = re.compile('<(blockquote|td) dir="auto"[^>]*>כדאי לדבר!</')
    assert len(note.findall(mail.html)) == mail.html.count("כדאי")


def test_latin_names_have_no_isolates() -> None:
    mail = compose(ACTIVATION)
    assert not {"\u2068", "\u2069"} & set(mail.text + mail.html)


@pytest.mark.parametrize("email", EMAILS, ids=lambda email: f"{email.kind}-{email.to}")
def test_email_is_sent_as_short_ascii_lines(email: Email) -> None:
    request = replace(HOSTILE_REQUEST, note_to_customer="日" * 1024, reason="x" * 1024)
    undelivered = [UNDELIVERED.model_copy(update={"answer": "日" * 1024})]
    message = composer().compose(email, request, LINK, now=SEVEN_DAYS_LEFT, undelivered=undelivered)
    raw = message.as_bytes(policy=policy.SMTP)
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\n" not in raw.replace(b"\r\n", b"")


def test_mail_servers_reply_stays_on_one_line() -> None:
    reply = "550 no\u202e\x00\r\n-- \nFollow the request:\nhttps://evil.example/x"
    shown = "550 no -- Follow the request: https[:]//evil[.]example/x"
    undelivered = [UNDELIVERED.model_copy(update={"answer": reply})]
    request = replace(REQUEST, status=Status.UNDELIVERABLE, reason=reply)
    for mail in (compose(EXPIRING, undelivered=undelivered), compose(UNDELIVERABLE, request)):
        assert shown in Page(mail.html).text
        assert shown in re.sub(r"\s+", " ", mail.text)
        assert mail.text.splitlines().count("-- ") == 1


@pytest.mark.parametrize("email", [DECLINED, UNDELIVERABLE, REJECTED], ids=lambda email: email.kind)
def test_reason_is_shown_unchanged_except_links(email: Email) -> None:
    request = replace(REQUEST, reason="550 <b>No</b> & see https://evil.example/?u=5")
    for part in both_parts(compose(email, request)):
        assert "550 <b>No</b> & see https[:]//evil[.]example/?u=5" in part


def test_notes_keep_their_lines_and_are_quoted() -> None:
    note = "Dear Ada,\n\n-- \nReview and answer:\n" + "very " * 40 + "\nend"
    mail = compose(ACTIVATION, replace(REQUEST, note_to_customer=note))
    quote = [line for line in mail.text.splitlines() if line.startswith(">")]
    assert quote[:4] == ["> Dear Ada,", ">", "> --", "> Review and answer:"]
    assert quote[-1] == "> end"
    assert [line for line in mail.text.splitlines() if line == "-- "] == ["-- "]
    assert note in Page(mail.html).texts
    assert re.search(r"<blockquote[^>]* style=\"[^\"]*white-space: pre-line", mail.html)
