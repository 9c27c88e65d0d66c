"""Example emails: composed from an example request, and read as the recipient gets them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from html.parser import HTMLParser
from typing import NamedTuple

from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus, Status
from smart_accounts.contract.steps import Addressee, Email
from smart_accounts.mail.compose import Composer, Site
from smart_accounts.store.records import StoredRequest

SITE = Site(
    base_url="https://accounts.example",
    organisation_name="Schmidt & Søn, Accounts",
    support_url="https://help.example/ask",
    mail_from="no-reply@accounts.example",
)
LINK = "https://accounts.example/activate/" + "aB3_-" * 8 + "xyz"
FOLLOW = "https://accounts.example/requests/smart-account-acme.example"
REQUEST = StoredRequest(
    id="0198f7c2-8a3e-7d11-b6a4-0b8f6f2f9c11",
    workflow_id="smart-account-acme.example",
    status=Status.PENDING,
    account_name="Acme Networks",
    account_domain="acme.example",
    customer_email="ada@acme.example",
    requester_email="pat@partner.example",
    requester_name="Pat Lee",
    requester_company="Partner Ltd",
    requester_issuer="https://login.example",
    requester_subject="pat",
    company_is_stated=False,
    note_to_customer="As agreed on the phone.\n\nSee you on Tuesday.",
    note_to_added_users="Welcome aboard.",
    added_users=("bo@acme.example", "cy@acme.example"),
    needs_attention=(),
    requested_at=datetime(2026, 8, 27, 14, 5, tzinfo=UTC),
    deadline=datetime(2026, 11, 25, 14, 5, tzinfo=UTC),
    link_ordinal=1,
    signalled=None,
    signalled_link=None,
    decided_at=datetime(2026, 9, 1, 9, 30, tzinfo=UTC),
    decided_by=None,
    reason="We know no such partner.",
    closed_at=datetime(2026, 9, 8, 16, 45, tzinfo=UTC),
    closed_by="opal",
    close_reason="The company asked us to.",
)
SEVEN_DAYS_LEFT = REQUEST.deadline - timedelta(days=7)
UNDELIVERED = EmailStatus(
    kind=EmailKind.REMINDER,
    recipient="ada@acme.example",
    state=EmailState.BOUNCED,
    at=datetime(2026, 9, 26, 14, 5, tzinfo=UTC),
    answer="552 5.2.2 Mailbox full",
)

CUSTOMER, REQUESTER, USER = Addressee.CUSTOMER, Addressee.REQUESTER, Addressee.ADDED_USER
ACTIVATION = Email(kind=EmailKind.ACTIVATION, to=CUSTOMER)
REQUEST_RECEIVED = Email(kind=EmailKind.REQUEST_RECEIVED, to=REQUESTER)
REMINDER = Email(kind=EmailKind.REMINDER, to=CUSTOMER)
EXPIRING = Email(kind=EmailKind.EXPIRING, to=REQUESTER)
ACTIVATED = Email(kind=EmailKind.ACTIVATED, to=REQUESTER)
DECLINED = Email(kind=EmailKind.DECLINED, to=REQUESTER)
WITHDRAWN = Email(kind=EmailKind.WITHDRAWN, to=CUSTOMER)
UNDELIVERABLE = Email(kind=EmailKind.UNDELIVERABLE, to=REQUESTER)
REJECTED = Email(kind=EmailKind.REJECTED, to=REQUESTER)
EMAILS = [
    ACTIVATION,
    REQUEST_RECEIVED,
    REMINDER,
    EXPIRING,
    ACTIVATED,
    Email(kind=EmailKind.WELCOME, to=CUSTOMER),
    Email(kind=EmailKind.ACCESS_GRANTED, to=USER),
    Email(kind=EmailKind.ACCESS_GRANTED, to=USER, number=2),
    Email(kind=EmailKind.LAPSED, to=CUSTOMER),
    Email(kind=EmailKind.LAPSED, to=REQUESTER),
    DECLINED,
    WITHDRAWN,
    UNDELIVERABLE,
    REJECTED,
    Email(kind=EmailKind.CLOSED, to=CUSTOMER),
    Email(kind=EmailKind.CLOSED, to=REQUESTER),
    Email(kind=EmailKind.CLOSED, to=USER),
]
SUBJECTS = {
    EmailKind.ACTIVATION: "Please accept the Smart Account “Acme Networks”",
    EmailKind.REQUEST_RECEIVED: "Request received: Smart Account “Acme Networks”",
    EmailKind.REMINDER: "Reminder: 7 days left to accept the Smart Account “Acme Networks”",
    EmailKind.EXPIRING: "No answer yet, 7 days left: Smart Account “Acme Networks”",
    EmailKind.ACTIVATED: "The Smart Account “Acme Networks” is active",
    EmailKind.WELCOME: "Your Smart Account “Acme Networks” is active",
    EmailKind.ACCESS_GRANTED: "You have access to the Smart Account “Acme Networks”",
    EmailKind.LAPSED: "The request for the Smart Account “Acme Networks” has lapsed",
    EmailKind.DECLINED: "The request for the Smart Account “Acme Networks” was declined",
    EmailKind.WITHDRAWN: "The request for the Smart Account “Acme Networks” was withdrawn",
    EmailKind.UNDELIVERABLE: (
        "The request for the Smart Account “Acme Networks” could not be delivered"
    ),
    EmailKind.REJECTED: "The request for the Smart Account “Acme Networks” was rejected",
    EmailKind.CLOSED: "The Smart Account “Acme Networks” was closed",
}


class Page(HTMLParser):
    """What an email's HTML part shows, loads and links to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.links: set[str | None] = set()
        self.attributes: set[str] = set()
        self._hidden = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value for name, value in attrs if name == "href"}
        self._hidden = tag in {"style", "title"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


class ReceivedEmail(NamedTuple):
    """An email after its way over the wire, with both parts decoded."""

    message: EmailMessage
    text: str
    html: str


def receive(message: EmailMessage) -> ReceivedEmail:
    parsed = message_from_bytes(message.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    assert parsed.get_content_type() == "multipart/alternative"
    text, html = parsed.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    contents = (part.get_content().replace("\r\n", "\n") for part in (text, html))
    return ReceivedEmail(parsed, *contents)


@cache
def composer(site: Site = SITE) -> Composer:
    return Composer(site)


def compose(
    email: Email,
    request: StoredRequest = REQUEST,
    site: Site = SITE,
    *,
    now: datetime = SEVEN_DAYS_LEFT,
    undelivered: Sequence[EmailStatus] = (),
) -> ReceivedEmail:
    link = LINK if email in (ACTIVATION, REMINDER) else None
    return receive(composer(site).compose(email, request, link, now=now, undelivered=undelivered))


def words(text: str) -> str:
    """Return the text on one line without the text part's colons, to compare both parts."""
    return " ".join(re.sub(r":(?=\s)|^>", " ", text, flags=re.MULTILINE).split())


def both_parts(email: ReceivedEmail) -> tuple[str, str]:
    """Return the words of the text part and of the HTML part."""
    return words(email.text), words(Page(email.html).text)
