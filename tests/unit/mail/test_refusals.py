"""Whose fault a refusal is. The replies are those of Postfix, Exchange, Gmail and others."""

import pytest

from smart_accounts.mail.refusals import Fault, codes_of, fault_of

ADA = "ada@acme.example"
RECIPIENT, TEMPORARY, SENDER = Fault.RECIPIENT, Fault.TEMPORARY, Fault.SENDER

AT_RCPT = [
    ("550 5.1.1 <ada@acme.example>: Recipient address rejected: User unknown", RECIPIENT),
    ("550-5.1.1 The email account that you tried to reach does not exist.", RECIPIENT),
    ("554 5.1.2 <ada@acme.example>: Recipient address rejected: Domain not found", RECIPIENT),
    ("501 5.1.3 Bad recipient address syntax", RECIPIENT),
    ("550 5.1.6 Mailbox has moved", RECIPIENT),
    ("556 5.1.10 <ada@acme.example>: Domain acme.example does not accept mail", RECIPIENT),
    ("550 5.2.1 The email account that you tried to reach is disabled.", RECIPIENT),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", RECIPIENT),
    ("550 5.4.1 [ada@acme.example]: no such account", RECIPIENT),
    ("550 5.4.1 no answer from host", SENDER),
    ("550 no such user", RECIPIENT),
    ("550 5.0.0 no such user", RECIPIENT),
    ("551 User not local", RECIPIENT),
    ("553 sorry, no mailbox here by that name", RECIPIENT),
    ("553 5.7.1 <bounce-x@us.example>: Sender address rejected: not owned by user", SENDER),
    ("504 5.5.2 <host>: Helo command rejected: need fully-qualified hostname", SENDER),
    ("554 5.7.1 <ada@acme.example>: Relay access denied", SENDER),
    ("550 5.1.8 Sender domain not found", SENDER),
    ("550 5.1.7 Sender address is malformed", SENDER),
    ("550 5.7.26 This mail is unauthenticated: SPF did not pass", SENDER),
    ("550 relaying denied", SENDER),
    ("550 Sender verify failed", SENDER),
    ("553 Your host name has no reverse entry", SENDER),
    ("550 rejected by policy", SENDER),
    ("550 Blocked, see the list", SENDER),
    ("554 no", SENDER),
    ("530 5.7.0 Authentication required", SENDER),
    ("530 sign in first", SENDER),
    ("552 5.3.4 Message too big", SENDER),
    ("552 5.2.2 Mailbox full", TEMPORARY),
    ("550 5.2.2 Over quota", TEMPORARY),
    ("552 too much", TEMPORARY),
    ("550 The mailbox is full", TEMPORARY),
    ("550 4.2.1 try later", TEMPORARY),
    ("450 5.1.1 unknown for now", TEMPORARY),
    ("421 busy", TEMPORARY),
    ("5.1.1 (bad mailbox)", RECIPIENT),
    ("4.4.7", TEMPORARY),
    ("5.0.0", SENDER),
    ("Refused for 5 days: 550 5.1.1 no such user", SENDER),
    ("", SENDER),
]


@pytest.mark.parametrize(("reply", "fault"), AT_RCPT)
def test_fault_of_a_reply(reply: str, fault: Fault) -> None:
    assert fault_of(reply, ADA) is fault


def test_words_in_the_address_are_not_the_reason() -> None:
    assert fault_of("550 <sender@relay.example> unknown", "sender@relay.example") is RECIPIENT


@pytest.mark.parametrize(
    ("reply", "fault"),
    [("550 no", SENDER), ("550 5.1.1 unknown", RECIPIENT), ("552 too much", TEMPORARY)],
)
def test_reply_to_the_content_needs_a_status_code_to_blame_the_recipient(
    reply: str, fault: Fault
) -> None:
    assert fault_of(reply, ADA, is_about_content=True) is fault


@pytest.mark.parametrize(
    ("reply", "codes"),
    [
        ("550 5.7.1 <ada@acme.example> no", "550 5.7.1"),
        ("550-5.7.1 no", "550 5.7.1"),
        ("550 no", "550"),
        ("5.1.1", "5.1.1"),
        ("ada@acme.example", ""),
    ],
)
def test_codes_hold_no_address(reply: str, codes: str) -> None:
    assert codes_of(reply) == codes
