"""Reports as mail servers write them, and what strangers may send to a return path instead."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_accounts.mail.bounces import BounceReport, read_bounce, return_path

TOKEN = "q7w2abcdefghijklmnopqrstuvwxyz56"
OTHER = "a" * 32
DOMAIN = "bounces.service.example"
ADDRESS = return_path(TOKEN, DOMAIN)

POSTFIX = """\
From MAILER-DAEMON Wed Mar  4 10:00:02 2026
Return-Path: <>
X-Original-To: bounce-q7w2abcdefghijklmnopqrstuvwxyz56@bounces.service.example
Delivered-To: hook@bounces.service.example
Date: Wed,  4 Mar 2026 10:00:02 +0000 (UTC)
From: MAILER-DAEMON@relay.example (Email Delivery System)
Subject: Undelivered Email Returned to Sender
To: bounce-q7w2abcdefghijklmnopqrstuvwxyz56@bounces.service.example
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4F1C2.1772618402/relay.example"
Content-Transfer-Encoding: 8bit
Message-Id: <20260304100002.4F1C9@relay.example>

This is a MIME-encapsulated message.

--4F1C2.1772618402/relay.example
Content-Description: Notification
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

This is the email system at host relay.example.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

--4F1C2.1772618402/relay.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example
X-Postfix-Queue-ID: 4F1C2
X-Postfix-Sender: rfc822; bounce-q7w2abcdefghijklmnopqrstuvwxyz56@bounces.service.example
Arrival-Date: Wed,  4 Mar 2026 10:00:01 +0000 (UTC)

Final-Recipient: rfc822; ada@acme.example
Original-Recipient: rfc822;ada@acme.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.acme.example
Diagnostic-Code: smtp; 550 5.1.1 <ada@acme.example>: Recipient address
    rejected: User unknown in virtual mailbox table

--4F1C2.1772618402/relay.example
Content-Description: Undelivered Message
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Return-Path: <bounce-q7w2abcdefghijklmnopqrstuvwxyz56@bounces.service.example>
From: Example Accounts <no-reply@service.example>
To: ada@acme.example
Subject: Pat Lee asks you to accept a Smart Account
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="==1=="

--==1==
Content-Type: text/plain; charset="utf-8"

Hello

--==1==--

--4F1C2.1772618402/relay.example--
"""

EXCHANGE = """\
From: Microsoft Outlook <postmaster@acme.example>
To: <BOUNCE-Q7W2ABCDEFGHIJKLMNOPQRSTUVWXYZ56@Bounces.Service.Example>
Date: Wed, 4 Mar 2026 10:00:05 +0000
Content-Type: multipart/report; report-type=delivery-status;
 boundary="d1cf0b1e-4a5e-4a8e-9d3e-000000000001"
X-MS-Exchange-Message-Is-Ndr:
Content-Language: en-US
Message-ID: <d1cf0b1e@acme.example>
Subject: Undeliverable: Pat Lee asks you to accept a Smart Account
MIME-Version: 1.0

--d1cf0b1e-4a5e-4a8e-9d3e-000000000001
Content-Type: multipart/alternative; differences=Content-Type;
 boundary="d1cf0b1e-4a5e-4a8e-9d3e-000000000001-alternative"

--d1cf0b1e-4a5e-4a8e-9d3e-000000000001-alternative
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

Your message to ada@acme.example couldn't be delivered.

--d1cf0b1e-4a5e-4a8e-9d3e-000000000001-alternative
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

<html><body>Your message couldn't be delivered.</body></html>

--d1cf0b1e-4a5e-4a8e-9d3e-000000000001-alternative--

--d1cf0b1e-4a5e-4a8e-9d3e-000000000001
Content-Type: message/delivery-status

Reporting-MTA: dns;EXCH01.acme.example
Received-From-MTA: dns;relay.example
Arrival-Date: Wed, 4 Mar 2026 10:00:04 +0000

Final-Recipient: rfc822;ada@acme.example
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by lookup
X-Display-Name: ada@acme.example


--d1cf0b1e-4a5e-4a8e-9d3e-000000000001
Content-Type: message/rfc822

Subject: Pat Lee asks you to accept a Smart Account

--d1cf0b1e-4a5e-4a8e-9d3e-000000000001--
"""

GMAIL = """\
Delivered-To: bounce-q7w2abcdefghijklmnopqrstuvwxyz56@bounces.service.example
Return-Path: <>
From: Email Delivery Subsystem <mailer-daemon@bigmail.example>
To: bounce-q7w2abcdefghijklmnopqrstuvwxyz56@bounces.service.example
Auto-Submitted: auto-replied
Subject: Delivery Status Notification (Failure)
Content-Type: multipart/report; boundary="000000000000a1b2c3"; report-type=delivery-status
Date: Wed, 04 Mar 2026 02:00:03 -0800 (PST)

--000000000000a1b2c3
Content-Type: multipart/related; boundary="000000000000d4e5f6"

--000000000000d4e5f6
Content-Type: text/plain; charset="UTF-8"

** Address not found **

--000000000000d4e5f6--
--000000000000a1b2c3
Content-Type: message/delivery-status

Reporting-MTA: dns; bigmail.example
Arrival-Date: Wed, 04 Mar 2026 02:00:02 -0800 (PST)

Final-Recipient: rfc822; ada@acme.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.acme.example. (192.0.2.7, the server for the domain acme.example.)
Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist.
 550 5.1.1 Please try double-checking the address. q12-20020a05 - gsmtp
Last-Attempt-Date: Wed, 04 Mar 2026 02:00:03 -0800 (PST)

--000000000000a1b2c3
Content-Type: message/rfc822

Subject: Pat Lee asks you to accept a Smart Account

--000000000000a1b2c3--
"""


def read(report: str) -> BounceReport | None:
    return read_bounce(report.encode(), DOMAIN)


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize(
    ("report", "answer"),
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
def test_a_report_names_the_email_and_says_why(report: str, answer: str, ends: str) -> None:
    assert read(report.replace("\n", ends)) == BounceReport(TOKEN, answer)


def report(
    *,
    headers: str = f"To: {ADDRESS}",
    content_type: str = 'multipart/report; report-type=delivery-status; boundary="b"',
    kind: str = "message/delivery-status",
    recipients: str = "Action: failed\nStatus: 5.1.1",
) -> str:
    """The least that is a report, with one thing changed."""
    return (
        f"{headers}\nContent-Type: {content_type}\n\n--b\n\nSorry.\n"
        f"--b\nContent-Type: {kind}\n\nReporting-MTA: dns; relay.example\n\n{recipients}\n\n--b--"
    )


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
def test_whoever_delivered_the_report_names_its_recipient(headers: str) -> None:
    assert read(report(headers=headers)) == BounceReport(TOKEN, "5.1.1")


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
def test_no_other_address_counts_nor_two_at_once(headers: str) -> None:
    assert read(report(headers=headers)) is None


def test_the_domain_may_be_set_in_any_case() -> None:
    assert read_bounce(report().encode(), DOMAIN.upper()) == BounceReport(TOKEN, "5.1.1")


@pytest.mark.parametrize(
    "recipients",
    [
        "Action: failed\nStatus: 5.0.0 (permanent failure)",
        "Action: failed\nStatus: 4.4.7",
        "action: FAILED (bad address)\nSTATUS: 5.7.509",
        "Final-Recipient: rfc822; a@acme.example\nAction:failed\nStatus:5.2.2",
        "Action: failed\nStatus: 5.1.1\n\nAction: failed\nStatus: 5.2.1",
        "\n\nAction: failed\nStatus: 5.1.1\n\n\n",
        "Action: failed\nStatus: 5.1.1\n\n" * 3,
    ],
)
def test_a_hard_bounce(recipients: str) -> None:
    assert read(report(recipients=recipients))


@pytest.mark.parametrize(
    "recipients",
    [
        "",
        "Status: 5.1.1",
        "Action: failed",
        "Action: failed\nStatus: 3.0.0",
        "Action: failed\nStatus: 2.0.0",
        "Action: failed\nStatus: 5",
        "Action: failed\nStatus: 15.1.1",
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
def test_an_email_that_arrived_or_still_may_did_not_come_back(recipients: str) -> None:
    assert read(report(recipients=recipients)) is None


@pytest.mark.parametrize(
    "raw",
    [
        report(content_type="multipart/report; boundary=b"),
        report(content_type="multipart/report; report-type=disposition-notification; boundary=b"),
        report(content_type="multipart/report; report-type*=x''delivery-status; boundary=b"),
        report(content_type="multipart/mixed; report-type=delivery-status; boundary=b"),
        report(content_type="text/plain; report-type=delivery-status; boundary=b"),
        report(content_type="multipart/report; report-type=delivery-status"),
        report(content_type="multipart/report; report-type=delivery-status; boundary=c"),
        report(kind="text/plain"),
        report(kind="message/disposition-notification"),
        f"To: {ADDRESS}\nSubject: Out of office\n\nAction: failed\nStatus: 5.1.1\n",
        # A person sends us the report that they got.
        (
            f"To: {ADDRESS}\nContent-Type: multipart/mixed; boundary=f\n\n"
            f"--f\nContent-Type: message/rfc822\n\n{report()}\n--f--\n"
        ),
    ],
)
def test_another_kind_of_email_is_no_report(raw: str) -> None:
    assert read(raw) is None


def test_what_stands_in_the_returned_email_is_not_about_it() -> None:
    inside = "Action: failed\nStatus: 5.1.1"
    raw = report(recipients="Action: delayed\nStatus: 4.4.1").removesuffix("--b--")
    raw += f"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n{inside}\n--b--"
    assert read(raw) is None


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("smtp; 550 no such user", "550 no such user"),
        ("SMTP ;550 no such user", "550 no such user"),
        ("X-Postfix; unknown user: ada", "unknown user: ada"),
        ("550 no such user; really", "550 no such user; really"),
        ("smtp;", "5.1.1 (bad mailbox)"),
        ("", "5.1.1 (bad mailbox)"),
        ("smtp; \x1b[31m\x00 550\tno\x7fsuch", "[31m 550 no such"),
        ("smtp; 550 unzul\u00e4ssig", "550 unzul\ufffd\ufffdssig"),
        ("smtp; " + "x" * 600, "x" * 300),
    ],
)
def test_the_answer_is_one_printable_line(code: str, answer: str) -> None:
    fields = f"Action: failed\nStatus: 5.1.1 (bad mailbox)\nDiagnostic-Code: {code}"
    assert read(report(recipients=fields)) == BounceReport(TOKEN, answer)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe" * 999,
        b"\n\n--b\n",
        POSTFIX.encode("utf-16"),
        base64.b64encode(POSTFIX.encode()),
        report(headers=f"To: {'(' * 5000}{')' * 5000}").encode(),
        report(content_type="multipart/report; " + ";" * 5000).encode(),
        report(content_type="multipart/report; charset*=\"x'y'%FF%00").encode(),
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_garbage_is_no_report(raw: bytes) -> None:
    assert read_bounce(raw, DOMAIN) is None


@pytest.mark.parametrize("whole", [POSTFIX, EXCHANGE, GMAIL], ids=["postfix", "exchange", "gmail"])
def test_a_report_that_is_cut_names_the_email_or_nothing(whole: str) -> None:
    found = {read(whole[:end]) for end in range(0, len(whole), 5)}
    assert {returned and returned.token for returned in found} == {None, TOKEN}


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\n", b"\n\n", b"--b\n", b"--b--\n", b"(", b'"', b";", b"=?utf-8?b?//8?="]),
    st.sampled_from(POSTFIX.encode().splitlines(keepends=True)),
    st.sampled_from(report().encode().splitlines(keepends=True)),
)


@given(st.lists(PIECES, max_size=40).map(b"".join))
def test_nothing_raises(raw: bytes) -> None:
    found = read_bounce(raw, DOMAIN)
    assert found is None or found.token == TOKEN


@given(st.data())
def test_nothing_raises_at_a_damaged_report(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([POSTFIX, EXCHANGE, GMAIL])).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 60, len(whole))))
    read_bounce(whole[:start] + data.draw(st.binary(max_size=60)) + whole[end:], DOMAIN)


def test_parts_in_parts_cost_little_time() -> None:
    levels = [b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(800)]
    raw = report().removesuffix("--").encode() + b"\n" + b"".join(levels) + b"-\n" * 100_000
    begun = time.process_time()
    assert read_bounce(raw, DOMAIN)
    assert time.process_time() - begun < 1
