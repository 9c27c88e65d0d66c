"""Bounce reports as mail servers write them, and everything else that people may send."""

import base64
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_accounts.mail.bounces import read_bounce
from smart_accounts.tokens import return_path
from tests.support.bounce_reports import (
    ADDRESS,
    DOMAIN,
    OTHER,
    TOKEN,
    UNREADABLE,
    failed,
    read,
    report,
    returned,
)

REPORTS = Path(__file__).parent / "bounce_reports"
POSTFIX = (REPORTS / "postfix.eml").read_text()
EXCHANGE = (REPORTS / "exchange.eml").read_text()
GMAIL = (REPORTS / "gmail.eml").read_text()


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(
    ("report", "reply"),
    [
        (
            POSTFIX,
            (
                "550 5.1.1 <ada@acme.example>: Recipient address rejected: "
                "User unknown in virtual mailbox table"
            ),
        ),
        (
            EXCHANGE,
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by lookup",
        ),
        (
            GMAIL,
            (
                "550-5.1.1 The email account that you tried to reach does not exist. "
                "550 5.1.1 Please try double-checking the address. q12-20020a05 - gsmtp"
            ),
        ),
    ],
    ids=["postfix", "exchange", "gmail"],
)
def test_report_gives_the_token_and_the_reply(report: str, reply: str, newline: str) -> None:
    assert read(report.replace("\n", newline)) == failed(reply)


@pytest.mark.parametrize(
    "headers",
    [
        f"To: {ADDRESS}",
        f"To: Someone <x@other.example>, <{ADDRESS}>",
        f"To: undisclosed-recipients:;\nDelivered-To: {ADDRESS}",
        f"To: x@other.example\nX-Original-To: {ADDRESS}",
        f"Envelope-To: {ADDRESS}",
        f"Delivered-To: hook@{DOMAIN}\nDelivered-To: {ADDRESS}",
        f"To: <<<>>,,(\nDelivered-To: {ADDRESS}",
        f"To: {ADDRESS.upper()}",
        f"TO:\n {ADDRESS} (the sender)",
    ],
)
def test_return_path_is_found_in_each_recipient_header(headers: str) -> None:
    assert read(report(headers=headers)) == failed("5.1.1")


@pytest.mark.parametrize(
    "headers",
    [
        "Subject: nobody",
        f"From: {ADDRESS}",
        f"Subject: {ADDRESS}",
        f'To: "{ADDRESS}" <x@other.example>',
        f"To: x@other.example ({ADDRESS})",
        f"To: {return_path(TOKEN, 'other.example')}",
        f"To: {return_path(TOKEN, 'bounces-service.example')}",
        f"To: {ADDRESS}.other.example",
        f"To: x-{ADDRESS}",
        f"To: bounce-{TOKEN}x@{DOMAIN}",
        f"To: bounce-{TOKEN[1:]}@{DOMAIN}",
        f"To: bounce-{TOKEN[:-1]}1@{DOMAIN}",
        f"To: {TOKEN}@{DOMAIN}",
        f"To: {ADDRESS}, {return_path(OTHER, DOMAIN)}",
        f"To: {ADDRESS}\nDelivered-To: {return_path(OTHER, DOMAIN)}",
    ],
)
def test_report_to_another_or_to_two_addresses_is_ignored(headers: str) -> None:
    assert read(report(headers=headers)) is None


def test_bounce_domain_ignores_case() -> None:
    assert read_bounce(report().encode(), DOMAIN.upper()) == failed("5.1.1")


UNINDENTED = """Last-Attempt-Date: Thu, 26 Nov 2026 04:00:00 +0000
Diagnostic-Code: smtp; 550-5.1.1 The account
550-5.1.1 does not exist
550 5.1.1 at all.
Status: 5.0.0
Action: failed
Final-Recipient: rfc822; ada@acme.example"""
ADA_FAILED = "Final-Recipient: rfc822; ada@acme.example\nAction: failed\nStatus: 5.4.1"
ADA_UNKNOWN = "550 5.4.1 [ada@acme.example] no"
POSTFIX_SAID = "Diagnostic-Code: X-Postfix; host mx.example[192.0.2.1] said:"


@pytest.mark.parametrize(
    ("recipients", "reply"),
    [
        ("Action: failed\nStatus: 4.4.7", "4.4.7"),
        ("Action: failed\nStatus: 5.1.1\n\nAction: failed\nStatus: 5.2.1", "5.1.1"),
        ("\n\nAction: failed\nStatus: 5.1.1\n\n\n", "5.1.1"),
        ("Action: failed\nStatus: 5.1.1\n\n" * 3, "5.1.1"),
        ("action: FAILED (bad address)\nSTATUS: 5.1.1", "5.1.1"),
        ("Action: error\nStatus: 5.1.1", "5.1.1"),
        ("Status: 5.1.1", "5.1.1"),
        ("Action: failed\nDiagnostic-Code: smtp; 550 5.1.1 gone", "550 5.1.1 gone"),
        (UNINDENTED, "550-5.1.1 The account 550-5.1.1 does not exist 550 5.1.1 at all."),
        ("Action: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 gone", "550 5.1.1 gone"),
        (f"Action: failed\nStatus: 5.0.0\n{POSTFIX_SAID} 550 gone (RCPT TO)", "550 gone (RCPT TO)"),
        (f"{ADA_FAILED}\nDiagnostic-Code: smtp; 550 5.4.1 [ada@acme.example] no", ADA_UNKNOWN),
    ],
)
def test_email_to_an_address_that_takes_none_bounced(recipients: str, reply: str) -> None:
    assert read(report(recipients=recipients)) == failed(reply)


@pytest.mark.parametrize(
    ("recipients", "reply"),
    [
        ("Action: failed\nStatus: 5.0.0 (permanent failure)", "5.0.0 (permanent failure)"),
        ("Action: failed\nStatus: 5.7.509", "5.7.509"),
        ("Final-Recipient: rfc822; a@acme.example\nAction:failed\nStatus:5.2.2", "5.2.2"),
        ("Action: failed\nStatus: 5.4.1", "5.4.1"),
        (
            f"Action: failed\nStatus: 5.0.0\n{POSTFIX_SAID} 550 no (end of DATA)",
            "550 no (end of DATA)",
        ),
    ],
)
def test_email_that_is_refused_because_of_us_is_returned(recipients: str, reply: str) -> None:
    assert read(report(recipients=recipients)) == returned(reply)


@pytest.mark.parametrize(
    "recipients",
    [
        "Action: delayed\nStatus: 5.4.1",
        "Action: delayed\nStatus: 4.4.1\nWill-Retry-Until: Mon, 9 Mar 2026 10:00:01 +0000",
        "Action: relayed\nStatus: 5.0.0",
        "Action: delivered\nStatus: 2.1.5",
        "Action: expanded\nStatus: 5.0.0",
        "Action: not failed\nStatus: 5.1.1",
        "Action: failed\nStatus: 5.1.1\n\nAction: delivered\nStatus: 2.1.5",
        "Action: delayed\nStatus: 4.4.1\n\nAction: failed\nStatus: 5.1.1",
    ],
)
def test_email_that_may_still_arrive_has_not_bounced(recipients: str) -> None:
    assert read(report(recipients=recipients)) is None


@pytest.mark.parametrize(
    "recipients",
    [
        "",
        "Action: failed",
        "Action: failed\nStatus: 3.0.0",
        "Action: failed\nStatus: 5",
        "Action: failed\nStatus: 15.1.1",
    ],
)
def test_failure_without_a_status_code_cannot_be_read(recipients: str) -> None:
    assert read(report(recipients=recipients)) == UNREADABLE


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        ("smtp; 550 no such user", "550 5.1.1 no such user"),
        ("SMTP ;550 no such user", "550 5.1.1 no such user"),
        ("X-Postfix; unknown user: ada", "5.1.1 unknown user: ada"),
        ("550 no such user; really", "550 5.1.1 no such user; really"),
        ("smtp;", "5.1.1 (bad mailbox)"),
        ("", "5.1.1 (bad mailbox)"),
        ("smtp; \x1b[31m\x00 550\tno\x7fsuch", "550 5.1.1 no such"),
        ("smtp; 550 unzul\u00e4ssig", "550 5.1.1 unzul\ufffd\ufffdssig"),
        ("smtp; " + "x" * 600, "5.1.1 " + "x" * 294),
    ],
)
def test_reply_is_one_printable_line(code: str, reply: str) -> None:
    fields = f"Action: failed\nStatus: 5.1.1 (bad mailbox)\nDiagnostic-Code: {code}"
    assert read(report(recipients=fields)) == failed(reply)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe" * 999,
        b"\n\n--b\n",
        POSTFIX.encode("utf-16"),
        base64.b64encode(POSTFIX.encode()),
        report(headers=f"To: {'(' * 5000}{')' * 5000}").encode(),
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_garbage_is_ignored(raw: bytes) -> None:
    assert read_bounce(raw, DOMAIN) is None


@pytest.mark.parametrize(
    "content_type",
    ["multipart/report; " + ";" * 5000, "multipart/report; charset*=\"x'y'%FF%00"],
)
def test_garbage_for_a_return_path_cannot_be_read(content_type: str) -> None:
    assert read(report(content_type=content_type)) == UNREADABLE


@pytest.mark.parametrize("whole", [POSTFIX, EXCHANGE, GMAIL], ids=["postfix", "exchange", "gmail"])
def test_truncated_report_gives_the_token_or_nothing(whole: str) -> None:
    found = {read(whole[:end]) for end in range(0, len(whole), 5)}
    assert {bounce and bounce.token for bounce in found} == {None, TOKEN}


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\n", b"\n\n", b"--b\n", b"--b--\n", b"(", b'"', b";", b"=?utf-8?b?//8?="]),
    st.sampled_from(POSTFIX.encode().splitlines(keepends=True)),
    st.sampled_from(report().encode().splitlines(keepends=True)),
)


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_no_input_raises(raw: bytes) -> None:
    found = read_bounce(raw, DOMAIN)
    assert found is None or found.token == TOKEN


@given(st.data())
def test_damaged_report_does_not_raise(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([POSTFIX, EXCHANGE, GMAIL])).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 60, len(whole))))
    read_bounce(whole[:start] + data.draw(st.binary(max_size=60)) + whole[end:], DOMAIN)


def test_nested_parts_take_little_time() -> None:
    levels = [b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(800)]
    raw = report().removesuffix("--").encode() + b"\n" + b"".join(levels) + b"-\n" * 100_000
    start = time.process_time()
    assert read_bounce(raw, DOMAIN)
    assert time.process_time() - start < 1
