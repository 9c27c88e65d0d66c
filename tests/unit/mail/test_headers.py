"""The headers of each email. Names and addresses cannot add a header or a recipient."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from smart_accounts.contract.steps import Email
from tests.support.emails import (
    ACTIVATION,
    CUSTOMER,
    EMAILS,
    LINK,
    REQUEST,
    REQUESTER,
    SEVEN_DAYS_LEFT,
    SITE,
    SUBJECTS,
    Page,
    compose,
    composer,
)

LONG_NAMES = [
    "Zürich 🚀 " * 10,
    "日本語ネットワークス" * 12,
    "👩‍💻" * 40,
    "é" * 120,
    "Donaudampfschifffahrtsgesellschaft Beteiligungsverwaltung 日本 end",
]
NAMES_FOLDED_ANYWHERE = ["a" * length + " Bé" for length in range(20, 40)]


@pytest.mark.parametrize("email", EMAILS, ids=lambda email: f"{email.kind}-{email.to}")
def test_headers(email: Email) -> None:
    message = compose(email).message
    people = {CUSTOMER: "ada@acme.example", REQUESTER: "pat@partner.example"}
    recipient = people.get(email.to, REQUEST.added_users[email.number - 1])
    assert email.address_in(REQUEST) == recipient
    assert [address.addr_spec for address in message["To"].addresses] == [recipient]
    sender = message["From"].addresses[0]
    assert sender.display_name == SITE.organisation_name
    assert sender.addr_spec == SITE.mail_from
    assert message["X-Smart-Account-Mail"] == email.kind
    assert message["Auto-Submitted"] == "auto-generated"
    assert abs(datetime.now(UTC) - message["Date"].datetime).total_seconds() < 60
    assert message["Message-ID"].strip() == composer().message_id(email, REQUEST.id)
    assert message["X-Auto-Response-Suppress"] == "All"
    assert not {"Cc", "Bcc", "Reply-To"} & set(message.keys())


def test_replies_go_to_the_support_address() -> None:
    site = replace(SITE, support_email="help@accounts.example")
    assert compose(ACTIVATION, site=site).message["Reply-To"] == "help@accounts.example"


def test_copies_share_a_message_id_and_other_emails_do_not() -> None:
    emails = [*EMAILS, Email(kind=ACTIVATION.kind, to=CUSTOMER, number=2)]
    ids = {
        compose(email, request).message["Message-ID"].strip()
        for email in emails * 2
        for request in (REQUEST, replace(REQUEST, id="0198f7c2-0000-7d11-b6a4-0b8f6f2f9c11"))
    }
    assert len(ids) == 2 * len(emails)
    assert f"<{REQUEST.id}.activation.customer.1@accounts.example>" in ids


@pytest.mark.parametrize(
    "address",
    [
        "ada@acme.example, eve@evil.example",
        "ada@acme.example\r\nBcc: eve@evil.example",
        "Ada <eve@evil.example>",
        "ada@acme.example eve@evil.example",
    ],
)
def test_one_address_cannot_become_two(address: str) -> None:
    request = replace(REQUEST, customer_email=address)
    with pytest.raises((ValueError, IndexError)):
        composer().compose(ACTIVATION, request, LINK, now=SEVEN_DAYS_LEFT)


def test_name_cannot_start_another_header() -> None:
    request = replace(REQUEST, account_name="Acme\r\nBcc: eve@evil.example")
    with pytest.raises(ValueError, match="linefeed or carriage return"):
        composer().compose(ACTIVATION, request, LINK, now=SEVEN_DAYS_LEFT)


@pytest.mark.parametrize(
    "name",
    ["Acme =?utf-8?b?DQpCY2M6IGV2ZUB4DQoNCmhp?=", "=?utf-8?q?https=3A//evil=2Eexample/x?="],
)
def test_encoded_word_in_a_name_is_not_decoded(name: str) -> None:
    for email in EMAILS[:4]:
        message = compose(email, replace(REQUEST, account_name=name)).message
        assert message["Bcc"] is None
        assert "=[?]utf-8?" in message["Subject"]
        assert "evil.example" not in message["Subject"]


@pytest.mark.parametrize("name", LONG_NAMES + NAMES_FOLDED_ANYWHERE)
def test_any_name_arrives_unchanged(name: str) -> None:
    mail = compose(ACTIVATION, replace(REQUEST, account_name=name.strip(), requester_name=name))
    assert name.strip() in Page(mail.html).text
    assert "".join(name.split()) in "".join(mail.text.split())
    for email in EMAILS:
        subject = compose(email, replace(REQUEST, account_name=name.strip())).message["Subject"]
        assert subject == SUBJECTS[email.kind].replace("Acme Networks", name.strip())
