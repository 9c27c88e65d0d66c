"""What the emails say, and that nothing people write becomes a header, markup or a link."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from html.parser import HTMLParser
from typing import NamedTuple

import pytest

from smart_accounts.contract.messages import (
    Addressee,
    Email,
    EmailKind,
    EmailState,
    EmailStatus,
    Status,
)
from smart_accounts.mail.compose import Composer, Site, message_id, recipient, unlinked
from smart_accounts.store.records import StoredRequest

SITE = Site(
    base_url="https://accounts.example",
    organisation_name="Schmidt & Søn, Accounts",
    support_url="https://help.example/ask",
    mail_from="no-reply@accounts.example",
)
LINK = "https://accounts.example/activate/" + "aB3_-" * 8 + "xyz"
FOLLOW = "https://accounts.example/requests/smart-account-acme.example"
DEADLINE = "2026-11-25 14:05 UTC"
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
    note_to_customer="As agreed on the phone.\n\nSee you on Tuesday.",
    note_to_added_users="Welcome aboard.",
    added_users=("bo@acme.example", "cy@acme.example"),
    needs_attention=(),
    requested_at=datetime(2026, 8, 27, 14, 5, tzinfo=UTC),
    deadline=datetime(2026, 11, 25, 14, 5, tzinfo=UTC),
    link_ordinal=1,
    signalled=None,
    decided_at=datetime(2026, 9, 1, 9, 30, tzinfo=UTC),
    decided_by=None,
    reason="We know no such partner.",
)
NOW = REQUEST.deadline - timedelta(days=7)
UNDELIVERED = EmailStatus(
    kind=EmailKind.REMINDER,
    recipient="ada@acme.example",
    state=EmailState.BOUNCED,
    at=datetime(2026, 9, 26, 14, 5, tzinfo=UTC),
    answer="552 5.2.2 Mailbox full",
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
SUBJECTS = {
    EmailKind.ACTIVATION: "Please accept the Smart Account “Acme Networks”",
    EmailKind.REQUEST_RECEIVED: "Request received: Smart Account “Acme Networks”",
    EmailKind.REMINDER: "Reminder: 7 days left to accept the Smart Account “Acme Networks”",
    EmailKind.EXPIRING: "Still unanswered, 7 days left: Smart Account “Acme Networks”",
    EmailKind.ACTIVATED: "The Smart Account “Acme Networks” is active",
    EmailKind.WELCOME: "Your Smart Account “Acme Networks” is active",
    EmailKind.ACCESS_GRANTED: "You have access to the Smart Account “Acme Networks”",
    EmailKind.LAPSED: "The request for the Smart Account “Acme Networks” has lapsed",
    EmailKind.DECLINED: "The request for the Smart Account “Acme Networks” was declined",
    EmailKind.WITHDRAWN: "The request for the Smart Account “Acme Networks” was withdrawn",
    EmailKind.UNDELIVERABLE: (
        "The request for the Smart Account “Acme Networks” could not be delivered"
    ),
    EmailKind.REJECTED: "The request for the Smart Account “Acme Networks” was refused",
}
CUSTOMER, REQUESTER, USER = Addressee.CUSTOMER, Addressee.REQUESTER, Addressee.ADDED_USER
EMAILS = [
    Email(kind=EmailKind.ACTIVATION, to=CUSTOMER),
    Email(kind=EmailKind.REQUEST_RECEIVED, to=REQUESTER),
    Email(kind=EmailKind.REMINDER, to=CUSTOMER),
    Email(kind=EmailKind.EXPIRING, to=REQUESTER),
    Email(kind=EmailKind.ACTIVATED, to=REQUESTER),
    Email(kind=EmailKind.WELCOME, to=CUSTOMER),
    Email(kind=EmailKind.ACCESS_GRANTED, to=USER),
    Email(kind=EmailKind.ACCESS_GRANTED, to=USER, number=2),
    Email(kind=EmailKind.LAPSED, to=CUSTOMER),
    Email(kind=EmailKind.LAPSED, to=REQUESTER),
    Email(kind=EmailKind.DECLINED, to=REQUESTER),
    Email(kind=EmailKind.WITHDRAWN, to=CUSTOMER),
    Email(kind=EmailKind.UNDELIVERABLE, to=REQUESTER),
    Email(kind=EmailKind.REJECTED, to=REQUESTER),
]
ACTIVATION, _, REMINDER, EXPIRING = EMAILS[:4]
DECLINED, WITHDRAWN, UNDELIVERABLE, REJECTED = EMAILS[-4:]
REQUESTED_BY = ["Pat Lee", "Partner Ltd", "pat@partner.example"]
ADDED = ["bo@acme.example", "cy@acme.example"]
DECIDED = "2026-09-01 09:30 UTC"
TO_DECIDE = [
    *REQUESTED_BY,
    *ADDED,
    "As agreed on the phone.",
    LINK,
    f"Please answer by {DEADLINE}",
    "Open the same page and choose “Decline”",
    "expect this? Then simply ignore this email. Nothing happens without your answer",
    "lapses by itself",
]
SAYS = {
    (EmailKind.ACTIVATION, CUSTOMER): [
        "Pat Lee of Partner Ltd (pat@partner.example) asks you to accept",
        *TO_DECIDE,
    ],
    (EmailKind.REQUEST_RECEIVED, REQUESTER): [
        "Provisional",
        "The activation email goes to ada@acme.example",
        *ADDED,
        FOLLOW,
    ],
    (EmailKind.REMINDER, CUSTOMER): [
        "Pat Lee of Partner Ltd (pat@partner.example) asked you to accept",
        "no answer from you yet",
        f"You have 7 days left; without your answer by {DEADLINE} the request lapses",
        *TO_DECIDE,
    ],
    (EmailKind.EXPIRING, REQUESTER): [
        "ada@acme.example has not answered your request yet, with 7 days left",
        f"Without an answer by {DEADLINE} the request lapses",
        "send the activation email again, or replace the approver",
        FOLLOW,
        "Provisional",
        f"To be accepted by {DEADLINE}",
    ],
    (EmailKind.ACTIVATED, REQUESTER): [DECIDED, "Accepted by the customer (ada@acme.example)"],
    (EmailKind.WELCOME, CUSTOMER): ["Your role Approver and administrator", *ADDED],
    (EmailKind.ACCESS_GRANTED, USER): ["Your role User", *REQUESTED_BY, "Welcome aboard."],
    (EmailKind.LAPSED, CUSTOMER): [
        "You were asked to accept",
        f"Lapsed on {DEADLINE}",
        "no longer works",
        "ask Pat Lee of Partner Ltd (pat@partner.example)",
        "a new one can be requested",
    ],
    (EmailKind.LAPSED, REQUESTER): [
        "ada@acme.example did not answer",
        f"Lapsed on {DEADLINE}",
        "request a new Smart Account",
    ],
    (EmailKind.DECLINED, REQUESTER): [
        "ada@acme.example declined your request",
        DECIDED,
        "We know no such partner.",
        "request a new Smart Account",
    ],
    (EmailKind.WITHDRAWN, CUSTOMER): [
        "was withdrawn",
        "no longer works",
        "a new one can be requested",
    ],
    (EmailKind.UNDELIVERABLE, REQUESTER): [
        "The activation email to ada@acme.example was refused for good",
        "What the mail server said We know no such partner.",
        DECIDED,
        "The domain acme.example is free",
        "request a new Smart Account with another address",
    ],
    (EmailKind.REJECTED, REQUESTER): [
        "No account was opened, and ada@acme.example got no email about it",
        "Reason We know no such partner.",
        f"Refused on {DECIDED}",
        "request the Smart Account again once the reason no longer holds",
        "ask our support",
    ],
}


class Page(HTMLParser):
    """What an email's HTML shows, and all that it could load or lead to."""

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


class Read(NamedTuple):
    """An email as its reader gets it: off the wire, both parts decoded."""

    message: EmailMessage
    text: str
    html: str


def read(message: EmailMessage) -> Read:
    parsed = message_from_bytes(message.as_bytes(policy=policy.SMTP), policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    assert parsed.get_content_type() == "multipart/alternative"
    text, html = parsed.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    contents = (part.get_content().replace("\r\n", "\n") for part in (text, html))
    return Read(parsed, *contents)


@cache
def composer(site: Site) -> Composer:
    return Composer(site)


def compose(
    email: Email,
    request: StoredRequest = REQUEST,
    site: Site = SITE,
    *,
    now: datetime = NOW,
    undelivered: Sequence[EmailStatus] = (),
) -> Read:
    link = LINK if email in (ACTIVATION, REMINDER) else None
    return read(composer(site).compose(email, request, link, now=now, undelivered=undelivered))


def words(text: str) -> str:
    """On one line and without the text part's colons, so that both parts read alike."""
    return " ".join(re.sub(r":(?=\s)|^>", " ", text, flags=re.MULTILINE).split())


def hostile() -> StoredRequest:
    return replace(
        REQUEST,
        account_name="Evil.example/login & eve@evil.example 🚀",
        requester_name="Eve https://evil.example/<i>",
        requester_company="www.evil.example 日本",
        note_to_customer=HOSTILE,
        note_to_added_users=HOSTILE,
        reason=HOSTILE,
        decided_by="eve@evil.example\u202e\x00\r\nBcc: eve@evil.example",
    )


def hostile_answer() -> EmailStatus:
    return UNDELIVERED.model_copy(update={"answer": HOSTILE})


def linkified(text: str) -> Iterator[str]:
    """What an eager mail client would make clickable."""
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
class TestEveryMail:
    def test_says_what_it_must(self, email: Email) -> None:
        mail = compose(email)
        for part in (words(mail.text), words(Page(mail.html).text)):
            for said in [*SAYS[email.kind, email.to], "Acme Networks", "acme.example"]:
                assert said in part
            assert (DEADLINE in part) == (email != REJECTED)  # nothing opened, nothing due
            assert "None" not in part
            assert SITE.organisation_name in part
        assert mail.message["Subject"] == SUBJECTS[email.kind]
        assert "https://help.example/ask" in mail.text
        assert "https://help.example/ask" in Page(mail.html).links

    def test_no_line_of_a_paragraph_ends_within_a_moment(self, email: Email) -> None:
        for paragraph in re.findall(r"<p style.*?</p>", compose(email).html):
            whole = re.findall(r'nowrap;">[\d-]+ [\d:]+ UTC</span>', paragraph)
            assert len(whole) == paragraph.count(" UTC"), paragraph

    def test_headers(self, email: Email) -> None:
        message = compose(email).message
        to = {CUSTOMER: "ada@acme.example", REQUESTER: "pat@partner.example"}
        assert recipient(email, REQUEST) == to.get(email.to, ADDED[email.number - 1])
        assert [each.addr_spec for each in message["To"].addresses] == [recipient(email, REQUEST)]
        sender = message["From"].addresses[0]
        assert sender.display_name == SITE.organisation_name
        assert sender.addr_spec == SITE.mail_from
        assert message["X-Smart-Account-Mail"] == email.kind
        assert message["Auto-Submitted"] == "auto-generated"
        assert abs(datetime.now(UTC) - message["Date"].datetime).total_seconds() < 60
        assert message["Message-ID"].strip() == message_id(email, REQUEST.id, SITE.mail_from)
        assert not {"Cc", "Bcc", "Reply-To"} & set(message.keys())

    def test_written_text_is_neither_markup_nor_a_link(self, email: Email) -> None:
        mail = compose(email, hostile(), undelivered=[hostile_answer()])
        page = Page(mail.html)
        ours = {LINK, FOLLOW, SITE.support_url}
        addresses = {*ADDED, "ada@acme.example", "pat@partner.example"}
        allowed = {*addresses, *(each.partition("@")[2] for each in addresses)}
        for part in (mail.text, page.text):
            shown = part
            for url in ours:
                shown = shown.replace(str(url), "")
            assert set(linkified(shown)) <= allowed
        assert set(linkified(mail.message["Subject"])) == set()
        assert page.links <= ours
        assert not page.tags & {"b", "i", "script", "img", "link", "iframe", "form"}
        assert not page.attributes & {"src", "onload", "onerror", "background", "action", "srcset"}
        assert not re.search(r"@import|url\(", mail.html)

    def test_travels_in_short_ascii_lines(self, email: Email) -> None:
        request = replace(hostile(), note_to_customer="日" * 1024, reason="x" * 1024)
        undelivered = [UNDELIVERED.model_copy(update={"answer": "日" * 1024})]
        mail = composer(SITE).compose(email, request, LINK, now=NOW, undelivered=undelivered)
        raw = mail.as_bytes(policy=policy.SMTP)
        assert raw.isascii()
        assert max(map(len, raw.split(b"\r\n"))) <= 998
        assert b"\n" not in raw.replace(b"\r\n", b"")


def test_only_the_activation_email_and_the_reminder_carry_the_link() -> None:
    composed = {email: composer(SITE).compose(email, REQUEST, LINK, now=NOW) for email in EMAILS}
    carrying = [email for email, mail in composed.items() if "/activate/" in str(mail)]
    assert carrying == [ACTIVATION, REMINDER]
    for email in carrying:
        mail = compose(email)
        assert LINK in mail.text.split()
        assert Page(mail.html).links == {LINK, SITE.support_url}
        assert mail.html.count(f'href="{LINK}"') == 2  # the button and the plain link


@pytest.mark.parametrize(
    ("left", "words_for_it"),
    [
        (timedelta(days=60), "60 days left"),
        (timedelta(days=1), "24 hours left"),
        (timedelta(hours=1), "1 hour left"),
        (timedelta(minutes=5), "less than an hour left"),
        (timedelta(hours=-3), "less than an hour left"),
    ],
)
def test_what_is_left_goes_by_the_clock_it_is_given(left: timedelta, words_for_it: str) -> None:
    for email in (REMINDER, EXPIRING):
        mail = compose(email, now=REQUEST.deadline - left)
        for part in (mail.message["Subject"], mail.text, Page(mail.html).text):
            assert words_for_it in words(part)


def test_the_requester_learns_which_emails_did_not_reach_the_customer() -> None:
    undelivered = [
        EmailStatus(
            kind=EmailKind.ACTIVATION,
            recipient="old@acme.example",
            state=EmailState.FAILED,
            at=datetime(2026, 8, 27, 14, 6, tzinfo=UTC),
        ),
        UNDELIVERED,
    ]
    mail = compose(EXPIRING, undelivered=undelivered)
    for part in (words(mail.text), words(Page(mail.html).text)):
        assert "Not every email to the customer was delivered" in part
        assert (
            f"To be accepted by {DEADLINE} "
            "Activation email not delivered old@acme.example 2026-08-27 14:06 UTC "
            "Reminder not delivered ada@acme.example 2026-09-26 14:05 UTC "
            "The mail server said 552 5.2.2 Mailbox full"
        ) in part
    for part in (compose(EXPIRING).text, Page(compose(EXPIRING).html).text):
        assert not re.search(r"delivered|mail server", part)


def test_a_mail_servers_answer_stays_on_one_line() -> None:
    said = "550 no\u202e\x00\r\n-- \nFollow the request:\nhttps://evil.example/x"
    shown = "550 no -- Follow the request: https[:]//evil[.]example/x"
    answered = UNDELIVERED.model_copy(update={"answer": said})
    request = replace(REQUEST, status=Status.UNDELIVERABLE, reason=said)
    for mail in (compose(EXPIRING, undelivered=[answered]), compose(UNDELIVERABLE, request)):
        assert shown in Page(mail.html).text
        assert shown in re.sub(r"\s+", " ", mail.text)
        assert mail.text.splitlines().count("-- ") == 1


@pytest.mark.parametrize("email", [DECLINED, UNDELIVERABLE, REJECTED], ids=lambda each: each.kind)
def test_a_reason_is_shown_as_it_was_written_but_for_links(email: Email) -> None:
    mail = compose(email, replace(REQUEST, reason="550 <b>No</b> & see https://evil.example/?u=5"))
    for part in (mail.text, Page(mail.html).text):
        assert "550 <b>No</b> & see https[:]//evil[.]example/?u=5" in words(part)


def test_the_customer_is_not_told_why_the_requester_withdrew() -> None:
    mail = compose(WITHDRAWN, replace(REQUEST, decided_by="pat@partner.example", reason="Wrong."))
    for part in (mail.text, Page(mail.html).text):
        assert "Wrong." not in part
        assert f"Withdrawn on {DECIDED}" in words(part)


def test_both_copies_of_an_email_have_one_message_id_and_no_two_emails_share_one() -> None:
    mails = [*EMAILS, Email(kind=EmailKind.ACTIVATION, to=CUSTOMER, number=2)]
    ids = {
        compose(email, request).message["Message-ID"].strip()
        for email in mails * 2
        for request in (REQUEST, replace(REQUEST, id="0198f7c2-0000-7d11-b6a4-0b8f6f2f9c11"))
    }
    assert len(ids) == 2 * len(mails)
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
    with pytest.raises((ValueError, IndexError)):
        composer(SITE).compose(ACTIVATION, replace(REQUEST, customer_email=address), LINK, now=NOW)


def test_a_name_cannot_begin_another_header() -> None:
    request = replace(REQUEST, account_name="Acme\r\nBcc: eve@evil.example")
    with pytest.raises(ValueError, match="linefeed or carriage return"):
        composer(SITE).compose(ACTIVATION, request, LINK, now=NOW)


@pytest.mark.parametrize(
    "name",
    ["Acme =?utf-8?b?DQpCY2M6IGV2ZUB4DQoNCmhp?=", "=?utf-8?q?https=3A//evil=2Eexample/x?="],
)
def test_an_encoded_word_in_a_name_stays_what_it_is(name: str) -> None:
    for email in EMAILS[:4]:
        mail = compose(email, replace(REQUEST, account_name=name))
        assert mail.message["Bcc"] is None
        assert "=[?]utf-8?" in mail.message["Subject"]
        assert "evil.example" not in mail.message["Subject"]


@pytest.mark.parametrize(
    "name",
    [
        "Zürich 🚀 " * 10,
        "日本語ネットワークス" * 12,
        "👩‍💻" * 40,
        "é" * 120,
        "Donaudampfschifffahrtsgesellschaft Beteiligungsverwaltung 日本 end",
        *("a" * length + " Bé" for length in range(20, 40)),  # wherever the line is folded
    ],
)
def test_any_name_arrives_whole(name: str) -> None:
    mail = compose(ACTIVATION, replace(REQUEST, account_name=name.strip(), requester_name=name))
    assert name.strip() in Page(mail.html).text
    assert "".join(name.split()) in "".join(mail.text.split())
    for email in EMAILS:
        subject = compose(email, replace(REQUEST, account_name=name.strip())).message["Subject"]
        assert subject == SUBJECTS[email.kind].replace("Acme Networks", name.strip())


def test_notes_keep_their_lines_and_stay_marked_as_somebody_elses() -> None:
    note = "Dear Ada,\n\n-- \nReview and answer:\n" + "very " * 40 + "\nend"
    mail = compose(ACTIVATION, replace(REQUEST, note_to_customer=note))
    quote = [line for line in mail.text.splitlines() if line.startswith(">")]
    assert quote[:4] == ["> Dear Ada,", ">", "> --", "> Review and answer:"]
    assert quote[-1] == "> end"
    assert [line for line in mail.text.splitlines() if line == "-- "] == ["-- "]
    assert note in Page(mail.html).texts
    assert re.search(r"<blockquote[^>]* style=\"[^\"]*white-space: pre-line", mail.html)


def test_text_lines_are_short_but_links_whole() -> None:
    text = compose(ACTIVATION).text
    assert all(len(line) <= 72 for line in text.splitlines() if line != LINK)
    assert LINK in text.splitlines()


@pytest.mark.parametrize(
    ("by", "shown"),
    [
        (None, "the customer (ada@acme.example)"),
        ("customer", "the customer (ada@acme.example)"),
        ("ada@acme.example", "ada@acme.example"),
        ("Ada@acme.example", "Ada@acme.example"),
        ("eve\r\n\u202e@evil.example", "eve[@]evil[.]example"),
    ],
)
def test_who_accepted(by: str | None, shown: str) -> None:
    mail = compose(Email(kind=EmailKind.ACTIVATED, to=REQUESTER), replace(REQUEST, decided_by=by))
    for part in (mail.text, Page(mail.html).text):
        assert f"Accepted by {shown} Deadline was" in words(part)


def test_what_is_absent_leaves_no_gap() -> None:
    bare = replace(
        REQUEST, note_to_customer=None, note_to_added_users=None, added_users=(), reason=None
    )
    site = replace(SITE, support_url=None)
    activation = compose(ACTIVATION, bare, site)
    for part in (activation.text, Page(activation.html).text):
        assert "Who will be added Nobody besides you" in words(part)
        assert not re.search(r"Note|support|Questions|None", part)
    declined = compose(DECLINED, bare, site)
    for part in (declined.text, Page(declined.html).text):
        assert "Reason None was given" in words(part)
    undeliverable = compose(UNDELIVERABLE, bare, site)
    for part in (undeliverable.text, Page(undeliverable.html).text):
        assert "What the mail server said Not known" in words(part)
    rejected = compose(REJECTED, replace(bare, reason="Taken."), site)
    for part in (rejected.text, Page(rejected.html).text):
        assert not re.search(r"support|Questions|None|Deadline", part)
    for mail in (activation, declined, undeliverable, rejected, compose(EXPIRING)):
        assert "\n\n\n" not in mail.text


def test_fifty_users_are_all_named() -> None:
    users = tuple(f"user-{number}@acme.example" for number in range(50))
    mail = compose(ACTIVATION, replace(REQUEST, added_users=users))
    for part in (mail.text, Page(mail.html).text):
        assert set(users) <= set(part.split())
    last = Email(kind=EmailKind.ACCESS_GRANTED, to=USER, number=50)
    assert recipient(last, replace(REQUEST, added_users=users)) == "user-49@acme.example"


def test_styles_are_inlined_and_dark_mode_is_kept() -> None:
    html = compose(ACTIVATION).html
    assert re.search(r"<h1 style=\"", html)
    assert "prefers-color-scheme: dark" in html


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("evil.example/x", "evil[.]example/x"),
        ("https://evil.example/x", "https[:]//evil[.]example/x"),
        ("HTTP://EVIL", "HTTP[:]//EVIL"),
        ("mailto:eve@evil.example", "mailto[:]eve[@]evil[.]example"),
        ("tel:+4912345", "tel[:]+4912345"),
        ("\\\\server\\share", "[\\]\\server\\share"),
        ("evil。example", "evil[。]example"),
        ("evil\uff0eexample/x", "evil[\uff0e]example/x"),
        ("evil｡example", "evil[｡]example"),
        ("例え。com", "例え[。]com"),
        ("例え.テスト", "例え[.]テスト"),
        ("i❤.ws", "i❤[.]ws"),
        ("www.3com", "www[.]3com"),
        ("http://10.0.0.1/x", "http[:]//10[.]0[.]0[.]1/x"),
        ("a.b.co.uk", "a.b[.]co[.]uk"),
        ("evil.\u200dexample", "evil[.]\u200dexample"),
        ("Booking.com Ltd", "Booking[.]com Ltd"),
    ],
)
def test_what_looks_like_a_link_is_broken(text: str, harmless: str) -> None:
    assert unlinked(text) == harmless


@pytest.mark.parametrize(
    "text",
    [
        "3.5 and 1,024.75",
        "e.g. this, i.e. that",
        "The end. Next one: yes/no?",
        "At 14:05 on 25.11.2026, version 1.2.3",
        "wait...what",
        "St. Gallen & Co. KG, Dr. J. R. Smith Ph.D.",
        "次の文です。日本語のメモ。",
        "and/or @ 5 EUR",
        "Note: see below, Kund:innen, C:\\temp",
    ],
)
def test_ordinary_punctuation_stays(text: str) -> None:
    assert unlinked(text) == text
