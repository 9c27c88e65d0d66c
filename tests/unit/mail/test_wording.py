"""What each email says."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from smart_accounts.contract.messages import EmailKind
from smart_accounts.contract.steps import Email
from tests.support.emails import (
    ACTIVATED,
    ACTIVATION,
    CUSTOMER,
    DECLINED,
    EMAILS,
    EXPIRING,
    FOLLOW,
    LINK,
    REJECTED,
    REMINDER,
    REQUEST,
    REQUESTER,
    SEVEN_DAYS_LEFT,
    SITE,
    SUBJECTS,
    UNDELIVERABLE,
    USER,
    WITHDRAWN,
    Page,
    both_parts,
    compose,
    composer,
)

DEADLINE = "2026-11-25 14:05 UTC"
DECIDED = "2026-09-01 09:30 UTC"
REQUESTED_BY = ["Pat Lee", "Partner Ltd", "pat@partner.example"]
ADDED = ["bo@acme.example", "cy@acme.example"]
TO_DECIDE = [
    *REQUESTED_BY,
    "Who will have access You bo@acme.example cy@acme.example",
    "As agreed on the phone.",
    LINK,
    f"Please answer by {DEADLINE}",
    "open the same page and choose “Decline”",
    "expect this email, you can ignore it. Nothing happens without your answer",
    "lapses on its own",
]
CLOSED = [
    "An operator of Schmidt & Søn, Accounts closed",
    "Closed on 2026-09-08 16:45 UTC",
    "reason The company asked us to.",
]
CONTENTS = {
    (EmailKind.ACTIVATION, CUSTOMER): [
        "Pat Lee of Partner Ltd (pat@partner.example) asks you to accept",
        *TO_DECIDE,
    ],
    (EmailKind.REQUEST_RECEIVED, REQUESTER): [
        "Provisional",
        "The activation email goes to ada@acme.example",
        "Who will have access The customer bo@acme.example cy@acme.example",
        FOLLOW,
    ],
    (EmailKind.REMINDER, CUSTOMER): [
        "Pat Lee of Partner Ltd (pat@partner.example) asked you to accept",
        "you have not answered yet",
        "You have 7 days left. If you don",
        f"answer by {DEADLINE}",
        "the request lapses.",
        *TO_DECIDE,
    ],
    (EmailKind.EXPIRING, REQUESTER): [
        "ada@acme.example has not answered your request yet (7 days left)",
        f"If there is no answer by {DEADLINE}",
        "the request lapses and no account is opened",
        "send the activation email again",
        "replace the approver",
        FOLLOW,
        "Provisional",
        f"To be accepted by {DEADLINE}",
    ],
    (EmailKind.ACTIVATED, REQUESTER): [DECIDED, "Accepted by the customer (ada@acme.example)"],
    (EmailKind.WELCOME, CUSTOMER): [
        "Your role Approver and administrator",
        "Who has access You bo@acme.example cy@acme.example",
    ],
    (EmailKind.ACCESS_GRANTED, USER): ["Your role User", *REQUESTED_BY, "Welcome aboard."],
    (EmailKind.LAPSED, CUSTOMER): [
        "You were asked to accept",
        f"Lapsed on {DEADLINE}",
        "no longer works",
        "ask Pat Lee of Partner Ltd (pat@partner.example) to request a new one",
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
        "ask Pat Lee of Partner Ltd (pat@partner.example) to request a new one",
    ],
    (EmailKind.UNDELIVERABLE, REQUESTER): [
        "The activation email to ada@acme.example could not be delivered",
        "What the mail server said We know no such partner.",
        DECIDED,
        "The domain acme.example is available again",
        "This does not mean that the address is wrong.",
        "so you can request a new Smart Account later",
    ],
    (EmailKind.REJECTED, REQUESTER): [
        "No account was opened, and ada@acme.example received no email from us",
        "Reason We know no such partner.",
        f"Rejected on {DECIDED}",
        "request the Smart Account again once the reason no longer applies",
        "contact support",
    ],
    (EmailKind.CLOSED, CUSTOMER): [
        "s Smart Account. You and the users who were added no longer have access",
        "ask Pat Lee of Partner Ltd (pat@partner.example) to request a new one",
        *CLOSED,
    ],
    (EmailKind.CLOSED, REQUESTER): [
        "closed the Smart Account that you requested.",
        "ada@acme.example and the users who were added no longer have access.",
        "The domain acme.example is available again",
        *CLOSED,
    ],
    (EmailKind.CLOSED, USER): [
        "closed the Smart Account that Pat Lee of Partner Ltd (pat@partner.example) added you to",
        "You no longer have access.",
        *CLOSED,
    ],
}


@pytest.mark.parametrize("email", EMAILS, ids=lambda email: f"{email.kind}-{email.to}")
class TestEveryEmail:
    def test_content(self, email: Email) -> None:
        mail = compose(email)
        for part in both_parts(mail):
            for text in [*CONTENTS[email.kind, email.to], "Acme Networks", "acme.example"]:
                assert text in part
            # A rejected request has no deadline, and a closed account met it.
            assert (DEADLINE in part) == (email.kind not in (EmailKind.REJECTED, EmailKind.CLOSED))
            assert "None" not in part
            assert SITE.organisation_name in part
        assert mail.message["Subject"] == SUBJECTS[email.kind]
        assert "https://help.example/ask" in mail.text
        assert "https://help.example/ask" in Page(mail.html).links

    def test_times_do_not_wrap_in_paragraphs(self, email: Email) -> None:
        for paragraph in re.findall(r"<p style.*?</p>", compose(email).html):
            whole = re.findall(r'nowrap;">[\d-]+ [\d:]+ UTC</span>', paragraph)
            assert len(whole) == paragraph.count(" UTC"), paragraph


def test_only_activation_and_reminder_have_the_link() -> None:
    composed = {
        email: composer().compose(email, REQUEST, LINK, now=SEVEN_DAYS_LEFT) for email in EMAILS
    }
    with_link = [email for email, message in composed.items() if "/activate/" in str(message)]
    assert with_link == [ACTIVATION, REMINDER]
    for email in with_link:
        mail = compose(email)
        assert LINK in mail.text.split()
        assert Page(mail.html).links == {LINK, SITE.support_url}
        assert mail.html.count(f'href="{LINK}"') == 2  # the button and the plain link


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(days=60), "60 days left"),
        (timedelta(days=1), "24 hours left"),
        (timedelta(hours=1), "1 hour left"),
        (timedelta(minutes=5), "less than an hour left"),
        (timedelta(hours=-3), "less than an hour left"),
    ],
)
def test_time_left_follows_the_given_clock(left: timedelta, text: str) -> None:
    for email in (REMINDER, EXPIRING):
        mail = compose(email, now=REQUEST.deadline - left)
        for part in (mail.message["Subject"], *both_parts(mail)):
            assert text in part


def test_customer_does_not_see_why_request_was_withdrawn() -> None:
    request = replace(REQUEST, decided_by="pat@partner.example", reason="Wrong.")
    for part in both_parts(compose(WITHDRAWN, request)):
        assert "Wrong." not in part
        assert f"Withdrawn on {DECIDED}" in part


@pytest.mark.parametrize(
    ("decided_by", "shown"),
    [
        (None, "the customer (ada@acme.example)"),
        ("customer", "the customer (ada@acme.example)"),
        ("ada@acme.example", "ada@acme.example"),
        ("Ada@acme.example", "Ada@acme.example"),
        ("eve\r\n\u202e@evil.example", "eve\ufffd\ufffd\ufffd[@]evil[.]example"),
    ],
)
def test_who_accepted(decided_by: str | None, shown: str) -> None:
    for part in both_parts(compose(ACTIVATED, replace(REQUEST, decided_by=decided_by))):
        assert f"Accepted by {shown} Deadline was" in part


@pytest.mark.parametrize(
    "email",
    [email for email in EMAILS if email.to != REQUESTER],
    ids=lambda email: f"{email.kind}-{email.to}-{email.number}",
)
def test_company_that_the_requester_stated_is_marked(email: Email) -> None:
    for is_stated in (False, True):
        for part in both_parts(compose(email, replace(REQUEST, company_is_stated=is_stated))):
            companies = part.count("Partner Ltd")
            assert companies
            assert part.count("Partner Ltd (as stated by the requester") == companies * is_stated


def test_missing_values_leave_no_gap() -> None:
    request = replace(
        REQUEST, note_to_customer=None, note_to_added_users=None, added_users=(), reason=None
    )
    site = replace(SITE, support_url=None)
    activation = compose(ACTIVATION, request, site)
    for part in both_parts(activation):
        assert "Who will have access Only you" in part
        assert not re.search(r"Note|support|Questions|None", part)
    declined = compose(DECLINED, request, site)
    for part in both_parts(declined):
        assert "Reason Not given" in part
    undeliverable = compose(UNDELIVERABLE, request, site)
    for part in both_parts(undeliverable):
        assert "What the mail server said Unknown" in part
    rejected = compose(REJECTED, replace(request, reason="Taken."), site)
    for part in both_parts(rejected):
        assert not re.search(r"support|Questions|None|Deadline", part)
    for mail in (activation, declined, undeliverable, rejected, compose(EXPIRING)):
        assert "\n\n\n" not in mail.text


def test_all_fifty_users_are_listed() -> None:
    users = tuple(f"user-{number}@acme.example" for number in range(50))
    request = replace(REQUEST, added_users=users)
    for part in both_parts(compose(ACTIVATION, request)):
        assert set(users) <= set(part.split())
    last = Email(kind=EmailKind.ACCESS_GRANTED, to=USER, number=50)
    assert last.address_in(request) == "user-49@acme.example"


def test_text_lines_are_short_but_links_stay_whole() -> None:
    text = compose(ACTIVATION).text
    assert all(len(line) <= 72 for line in text.splitlines() if line != LINK)
    assert LINK in text.splitlines()


def test_styles_are_inlined_and_dark_mode_is_kept() -> None:
    html = compose(ACTIVATION).html
    assert re.search(r"<h1 style=\"", html)
    assert "prefers-color-scheme: dark" in html
