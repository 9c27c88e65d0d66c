"""Bounce reports that depart from the RFCs, and other emails to a return path."""

import base64

import pytest

from smart_accounts.mail.bounces import BounceReport
from tests.support.bounce_reports import ADDRESS, UNREADABLE, failed, read, report, returned

FIELDS = b"Reporting-MTA: dns; x\r\n\r\nAction: failed\r\nStatus: 5.1.1"
ENCODED_FIELDS = base64.b64encode(FIELDS).decode()

INNER = report(content_type="multipart/report; boundary=c").replace("--b", "--c")


def wrapped(part: str, *, kind: str = "multipart/mixed") -> str:
    """Return the email that a gateway sends, which adds its own part after this one."""
    headers = f"To: {ADDRESS}\nContent-Type: {kind}; boundary=outer"
    return (
        f"{headers}\n\n--outer\n{part}\n--outer\nContent-Type: text/plain\n\nA footer.\n--outer--\n"
    )


@pytest.mark.parametrize(
    "raw",
    [
        report(content_type="multipart/report; boundary=b"),
        report(kind="message/delivery-status (dsn)"),
        wrapped(report(headers="X: y")),
        wrapped(report(headers="X: y"), kind="multipart/signed"),
        wrapped(f"Content-Type: text/plain\n\nA banner.\n--outer\n{report(headers='X: y')}"),
        report(content_type="multipart/report; report-type*=x''delivery-status; boundary=b"),
        report(content_type="multipart/mixed; boundary=b"),
        report(kind="message/global-delivery-status"),
        report(
            kind="message/delivery-status\nContent-Transfer-Encoding: base64",
            recipients="",
        ).replace(
            "Reporting-MTA: dns; relay.example\n\n",
            ENCODED_FIELDS,
        ),
        report(
            kind="message/delivery-status\nContent-Transfer-Encoding: quoted-printable",
            recipients="Action:=20failed\nStatus: 5.=\n1.1",
        ),
    ],
)
def test_report_in_other_parts_is_read(raw: str) -> None:
    assert read(raw) == failed("5.1.1")


QMAIL = """Hi. This is the qmail-send program at relay.example.
I'm afraid I wasn't able to deliver your message to the following addresses.

<ada@acme.example>:
192.0.2.1 does not like recipient.
Remote host said: 550 5.1.1 no such user
Giving up on 192.0.2.1.

--- Below this line is a copy of the message.

"""
EXIM = """X-Failed-Recipients: ada@acme.example
Auto-Submitted: auto-replied

A message that you sent could not be delivered to all of its recipients.

  ada@acme.example
    host mx.acme.example [192.0.2.1]
    SMTP error from remote mail server after RCPT TO:<ada@acme.example>:
    550 unknown user
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"\n{QMAIL}", failed("550 5.1.1 no such user")),
        (f"\n{QMAIL.replace('550 5.1.1', '554 5.7.1')}", returned("554 5.7.1 no such user")),
        (EXIM, failed("550 unknown user")),
        (
            EXIM.replace("550 unknown user", "unknown user"),
            returned("The email was returned. The report names no status code."),
        ),
    ],
)
def test_report_in_sentences_is_read(text: str, found: BounceReport) -> None:
    assert read(f"To: {ADDRESS}\nFrom: MAILER-DAEMON@relay.example\n{text}") == found


@pytest.mark.parametrize(
    "raw",
    [
        f"To: {ADDRESS}\nSubject: Out of office\n\nAction: failed\nStatus: 5.1.1\n",
        report(content_type="multipart/report; report-type=delivery-status"),
        report(content_type="multipart/report; report-type=delivery-status; boundary=c"),
        report(kind="text/plain"),
        report(kind="message/disposition-notification"),
        # A person forwards a report.
        (
            f"To: {ADDRESS}\nContent-Type: multipart/mixed; boundary=f\n\n"
            f"--f\nContent-Type: message/rfc822\n\n{report()}\n--f--\n"
        ),
        # Deeper than a gateway puts a report, or not a report.
        wrapped(wrapped(report()).replace("outer", "middle")),
        wrapped(report(content_type="multipart/mixed; boundary=b")),
        wrapped(report(kind=f"message/rfc822\n\n{INNER}", recipients="")),
    ],
)
def test_other_kinds_of_email_cannot_be_read(raw: str) -> None:
    assert read(raw) == UNREADABLE


@pytest.mark.parametrize("recipients", ["", ",", "<>", " , <>", '"Ada" <>'])
def test_header_without_recipients_names_no_failure(recipients: str) -> None:
    raw = f"To: {ADDRESS}\nX-Failed-Recipients: {recipients}\n\n550 5.1.1 Unknown\n"
    assert read(raw) == UNREADABLE


def test_header_with_addresses_in_brackets_is_read() -> None:
    header = "X-Failed-Recipients: <ada@acme.example>, Bo <bo@acme.example>"
    assert read(f"To: {ADDRESS}\n{header}\n\n550 5.1.1 Unknown\n") == failed("550 5.1.1 Unknown")


def test_warning_in_sentences_is_no_failure() -> None:
    warning = (
        "Delivery to the following recipient has been delayed:\n\n    ada@acme.example\n\n"
        "Message will be retried for 2 more day(s)\n\n550 5.1.1 is not said here\n"
    )
    assert read(f"To: {ADDRESS}\nFrom: MAILER-DAEMON@relay.example\n\n{warning}") is None


def test_automatic_response_of_a_person_is_ignored() -> None:
    assert read(f"To: {ADDRESS}\nAuto-Submitted: auto-replied\n\nBack on Monday.\n") is None


def test_report_inside_the_returned_email_is_ignored() -> None:
    inside = "Action: failed\nStatus: 5.1.1"
    raw = report(recipients="Action: delayed\nStatus: 4.4.1").removesuffix("--b--")
    raw += f"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n\n{inside}\n--b--"
    assert read(raw) is None


def test_report_that_is_wrapped_is_read_only_without_an_outer_one() -> None:
    delayed = "Content-Type: message/delivery-status\n\nX: y\n\nAction: delayed\nStatus: 4.4.1\n"
    assert read(wrapped(f"{report(headers='X: y')}\n--outer\n{delayed}")) is None
