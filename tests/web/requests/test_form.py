"""The form for a new request and its review."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from tests.support.page_content import hidden_fields, visible_text
from tests.support.partner_site import ACME_PAGE, FORM, PartnerSite

MARKUP = """<script>alert(1)</script><img src=x onerror=alert(2)> "'> https://evil.example/login"""


def is_harmless(page: str) -> bool:
    return not re.search(r"<script>|<img src=x|(href|src)=.?https://evil", page)


@pytest.mark.parametrize("field", FORM)
async def test_markup_in_a_field_is_shown_as_text(partner_site: PartnerSite, field: str) -> None:
    """The form, the review and the page of the request show markup as text."""
    form = FORM | {field: MARKUP}
    review = await partner_site.submit("/requests/review", **form)
    assert is_harmless(review.text)
    assert "evil.example" in review.text  # the form keeps the input
    sent = await partner_site.submit("/requests", **form)
    assert is_harmless(sent.text)
    for run in await partner_site.store_running_requests():
        shown = await partner_site.http.get(f"{ACME_PAGE}?run={run}")
        assert shown.status_code == 200
        assert is_harmless(shown.text)


async def test_review_shows_normalised_values(partner_site: PartnerSite) -> None:
    form = {
        "account_name": "  Acme   Networks ",
        "customer_email": "Ada@BÜCHER.example",
        "user_emails": "bo@acme.example; cy@acme.example,,\r\n BO@acme.example\tAda@bücher.example",
        "note_to_customer": "<b>one</b>\r\ntwo",
    }
    response = await partner_site.submit("/requests/review", **form)
    assert response.status_code == 200
    shown = visible_text(response)
    until = f"{datetime.now(UTC) + timedelta(days=90):%Y-%m-%d}"
    for words in (
        "Review Request",
        "Account name Acme Networks",
        "xn--bcher-kva.example",
        "<b>one</b> two",
        f"To be accepted by {until}, 90 days from now",
        "Pat Lee Partner Ltd",
    ):
        assert words in shown
    assert shown.count("@acme.example") == 2
    sent = hidden_fields(response)
    assert sent["account_domain"] == "xn--bcher-kva.example"
    assert sent["note_to_customer"] == "<b>one</b>\ntwo"
    assert not partner_site.temporal.running


async def test_review_shows_pasted_values(partner_site: PartnerSite) -> None:
    form = {
        "account_name": "Acme",
        "customer_email": "\u200bmailto:ada@acme.example",
        "user_emails": "Bell, Bo <bo@acme.example>; cy@acme.example<mailto:cy@acme.example>",
        "note_to_customer": "\u2022\tone\u00ad\v\uf0b7\ttwo",
    }
    sent = hidden_fields(await partner_site.submit("/requests/review", **form))
    assert sent["customer_email"] == "ada@acme.example"
    assert sent["user_emails"] == "bo@acme.example\ncy@acme.example"
    assert sent["note_to_customer"] == "\u2022 one\n\u2022 two"


async def test_review_shows_a_hint(partner_site: PartnerSite) -> None:
    response = await partner_site.submit(
        "/requests/review", **FORM | {"account_domain": "other.example"}
    )
    assert "The customer's address is not at the account's domain." in visible_text(response)


INVALID = {
    "empty": (
        {"account_name": "", "customer_email": " "},
        ["Account name is required.", "Customer email is required."],
    ),
    "markup": ({"account_name": "<b>"}, ["Account name must not contain < or >."]),
    "link": (
        {"account_name": "see https://evil.example"},
        ["Account name must not contain a web address."],
    ),
    "no address": (
        {"customer_email": "ada@"},
        ["Customer email must be one email address, without a display name."],
    ),
    "own address": (
        {"customer_email": "Pat@partner.example"},
        ["Customer email must differ from the requester's address."],
    ),
    "free mail": (
        {"customer_email": "ada@gmail.com"},
        ["Account domain must be a company's own domain, not a free-mail provider's."],
    ),
    "suffix": (
        {"account_domain": "co.uk"},
        ["Account domain must be a company's own domain, not a public suffix."],
    ),
    "long note": (
        {"note_to_customer": "x" * 1025},
        ["Note to customer must have at most 1024 characters."],
    ),
    "invisible character": (
        {"note_to_added_users": "one\r\na\u202eb"},
        ["Note to added users must not contain control or invisible characters, but line 2 does."],
    ),
    "bad entries": (
        {"user_emails": "bo@acme.example, cy@;<dee>\nbo@acme.example"},
        ["Entry 2, “cy@”, must be one email", "Entry 3, “<dee>”, must be one email"],
    ),
    "bad entries with names": (
        {"user_emails": "Bell, Bo <bo@acme.example>; Dee, Cy <cy@>"},
        ["Entry 2, “Dee, Cy <cy@>”, must be one email"],
    ),
    "too many": (
        {"user_emails": " ".join(f"u{n}@acme.example" for n in range(51))},
        ["User emails must have at most 50 addresses."],
    ),
}


@pytest.mark.parametrize("path", ["/requests/review", "/requests"])
@pytest.mark.parametrize("case", INVALID)
async def test_errors_are_shown_beside_their_fields(
    partner_site: PartnerSite, case: str, path: str
) -> None:
    changes, messages = INVALID[case]
    form = FORM | changes
    response = await partner_site.submit(path, **form)
    assert response.status_code == 422
    assert "<title>Error: " in response.text
    for message in messages:
        assert visible_text(response).count(message) == 2  # in the summary and beside the field
    for target in re.findall(r'<li><a href="#(\w+)">', response.text):
        field = re.search(rf'id="{target}" [^>]*aria-describedby="([^"]*)"', response.text)
        assert field
        assert all(f'id="{name}"' in response.text for name in field[1].split())
        assert f"{target}-error1" in field[1]
    for value in form.values():  # the form keeps the input
        assert value.replace("\r", "") in unescape(response.text).replace("\r", "")
    assert not partner_site.temporal.running


async def test_going_back_to_the_form_keeps_the_input(partner_site: PartnerSite) -> None:
    review = await partner_site.submit("/requests/review", **FORM)
    form = await partner_site.submit("/requests/new", **hidden_fields(review))
    assert form.status_code == 200
    for value in ("Acme Networks", "ada@acme.example", "acme.example", "As agreed.\nSoon."):
        assert value in unescape(form.text)
    assert hidden_fields(form)["form_id"] == hidden_fields(review)["form_id"]


async def test_longest_form_is_accepted_and_a_larger_body_is_not(partner_site: PartnerSite) -> None:
    longest = FORM | {
        "note_to_customer": "🚀" * 1024,
        "note_to_added_users": "🚀" * 1024,
        "user_emails": "\n".join(f"{'u' * 62}{n:02}@{'d' * 60}.example" for n in range(50)),
    }
    review = await partner_site.submit("/requests/review", **longest)
    assert review.status_code == 200
    assert (await partner_site.post("/requests", **hidden_fields(review))).status_code == 303
    assert (await partner_site.post("/requests", account_name="x" * 50_000)).status_code == 413
