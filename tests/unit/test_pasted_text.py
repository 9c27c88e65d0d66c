"""What people paste from Word, Outlook and spreadsheets into the fields of a request."""

from typing import Any

import pytest
from pydantic import ValidationError

from smart_accounts.contract.addresses import bare_address
from smart_accounts.contract.characters import plain_text
from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.fields import MAX_EMAIL, rules_of_open_requests
from smart_accounts.contract.messages import MAX_USERS, SmartAccountRequest, user_entries
from tests.support.worst_input import cpu_seconds

BO, CY = "bo@acme.example", "cy@acme.example"

LISTS: dict[str, tuple[str, list[str]]] = {
    "Outlook": (f"Bo Bell <{BO}>; Dee, Cy <{CY}>", [BO, CY]),
    "Gmail": (f'Bo Bell <{BO}>, "Dee, Cy" <{CY}>', [BO, CY]),
    "names with commas": (f"Bell, Bo <{BO}>, Dee, Cy <{CY}>", [BO, CY]),
    "address as its own name": (f"'{BO}' <{BO}>; {CY} <{CY}>", [BO, CY]),
    "other address as name": (f'"old@acme.example" <{BO}>', [BO]),
    "name in quotes with an at sign": (f"'Bo @ Acme' <{BO}>, {CY}", [BO, CY]),
    "apostrophe": (f"O'Neil, Bo <{BO}>; <{CY}>", [BO, CY]),
    "link in Outlook": (f"{BO}<mailto:{BO}>, {CY} <mailto:{CY}>", [BO, CY]),
    "link in old Outlook": (f"Bo Bell [mailto:{BO}]; {CY}", [BO, CY]),
    "mailto": (f"mailto:{BO}?subject=Hello, MAILTO:{CY}", [BO, CY]),
    "quotes": (f"'{BO}', \"{CY}\"", [BO, CY]),
    "invisible characters": (f"\ufeff{BO}\u200b;\u00a0\u2060c\u00ady@acme.example\u200e", [BO, CY]),
    "joiners around it": (f"\u200c{BO}\u200d", [BO]),
    "bullets": (f"\u2022\t{BO}\r\n\uf0b7\t{CY}\r\n- {BO}", [BO, CY]),
    "Word's line breaks": (f"{BO}\v{CY}\u2028{BO}", [BO, CY]),
    "addresses beside a name": (f"{BO} Cy Dee <{CY}>", [BO, CY]),
}


@pytest.mark.parametrize("program", LISTS)
def test_list_of_users(example: dict[str, Any], program: str) -> None:
    pasted, expected = LISTS[program]
    users = SmartAccountRequest.model_validate(example | {"user_emails": user_entries(pasted)})
    assert users.user_emails == tuple(expected)


BAD_LISTS: dict[str, tuple[str, dict[int, str]]] = {
    "each bad entry": (f"{BO}; bo@; Cy Dee <cy@>\nten", {2: "bo@", 3: "Cy Dee <cy@>", 4: "ten"}),
    "no bracket at the end": (f"{CY}, Bo <{BO}", {2: "Bo", 3: f"<{BO}"}),
    "address before another one": ("bo@ <cy@acme.example>", {1: "bo@"}),
    "name on another line": (f"Bo\nBell <{BO}>", {1: "Bo"}),
    "override": ("\u202eelpmaxe.emca@ob", {1: "\u202eelpmaxe.emca@ob"}),
    "joiner within": ("bo@ac\u200dme.example", {1: "bo@ac\u200dme.example"}),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_bad_entries_are_named(example: dict[str, Any], case: str) -> None:
    pasted, bad = BAD_LISTS[case]
    entries = user_entries(pasted)
    with pytest.raises(ValidationError) as caught:
        SmartAccountRequest.model_validate(example | {"user_emails": entries})
    numbers = [int(error.message.split()[1]) for error in field_errors(caught.value)]
    assert {number: entries[number - 1] for number in numbers} == bad


def test_one_entry_of_the_wire_is_one_address(example: dict[str, Any]) -> None:
    named = {"user_emails": [f"Bell, Bo <{BO}>", f"<mailto:{CY}>"]}
    assert SmartAccountRequest.model_validate(example | named).user_emails == (BO, CY)
    for entry in (f"{BO}, Cy <{CY}>", f"{BO}; {CY}", f"{BO}\r\nBcc: <{CY}>"):
        with pytest.raises(ValidationError, match="must be one email address"):
            SmartAccountRequest.model_validate(example | {"user_emails": [entry]})


def test_link_counts_as_one_entry() -> None:
    users = [f"u{number}@acme.example" for number in range(MAX_USERS)]
    assert len(user_entries("; ".join(f"{user}<mailto:{user}>" for user in users))) == MAX_USERS


@pytest.mark.parametrize("pasted", ["<" + "a" * 12_000, "<" + "'" * 12_000, "[mailto:<" * 1_400])
def test_long_words_cost_little_time(pasted: str) -> None:
    assert cpu_seconds(user_entries, pasted, enough=0.005) < 0.02


def test_very_long_list_is_not_read() -> None:
    longest = user_entries((BO + ",") * (MAX_USERS * MAX_EMAIL // len(BO + ",")))
    assert longest == [BO] * (MAX_USERS + 1)
    assert len(user_entries(" " * (MAX_USERS * MAX_EMAIL) + BO)) == MAX_USERS + 1


@pytest.mark.parametrize(
    "pasted",
    [
        "mailto:ada@acme.example",
        "MailTo:ada@acme.example?subject=Your%20account",
        "<ada@acme.example>",
        "'ada@acme.example'",
        "\u200bada@ac\u00adme.example\ufeff",
        "\u2068ada@acme.example\u2069",
        "\u00a0ada@acme.example\t\r\n",
    ],
)
def test_customer_email(example: dict[str, Any], pasted: str) -> None:
    request = SmartAccountRequest.model_validate(example | {"customer_email": pasted})
    assert request.customer_email == "ada@acme.example"


@pytest.mark.parametrize(
    "pasted",
    [
        "Ada <ada@acme.example>",
        "mailto:ada@acme.example,bo@acme.example",
        "ada@acme.example<mailto:ada@acme.example>",
        "ada@acme\n.example",
        "\u202eada@acme.example",
        "ada@acme.example\x00",
        "mailto:",
        "<>",
        "'",
    ],
)
def test_customer_email_that_is_not_one_address(example: dict[str, Any], pasted: str) -> None:
    with pytest.raises(ValidationError, match="must be one email address, without"):
        SmartAccountRequest.model_validate(example | {"customer_email": pasted})


@pytest.mark.parametrize("address", ["o'neil@acme.example", "a?b@acme.example", "ada@نامه‌ای.com"])
def test_unusual_address_stays(address: str) -> None:
    assert bare_address(address) == address


NOTES: dict[str, tuple[str, str]] = {
    "tabs": ("one\ttwo", "one two"),
    "bullets of Word": ("\u2022\tone\r\n\uf0b7\ttwo\n\uf0a7\tthree", "• one\n• two\n▪ three"),
    "hyphens of Word": ("co\u00adop well\x1eknown op\x1ftional", "coop well-known optional"),
    "line and page breaks": ("a\vb\fc\x85d\u2028e\u2029f", "a\nb\nc\nd\ne\nf"),
    "invisible characters": (
        "\ufeffAs\u200b agreed\u2060.\u2068x\u2069\u202ay\u202c",
        "As agreed.xy",
    ),
    "direction marks": ("שלום\u200e (ACME)\u200f", "שלום\u200e (ACME)\u200f"),
    "only direction marks": ("\u200e \u200f\n\u200e", ""),
    "joiners": ("क्\u200dष 👩\u200d🚀", "क्\u200dष 👩\u200d🚀"),
}


@pytest.mark.parametrize("field", ["note_to_customer", "note_to_added_users"])
@pytest.mark.parametrize("case", NOTES)
def test_note(example: dict[str, Any], case: str, field: str) -> None:
    pasted, kept = NOTES[case]
    request = SmartAccountRequest.model_validate(example | {field: pasted})
    assert (getattr(request, field) or "") == kept


@pytest.mark.parametrize(
    ("note", "line"),
    [
        ("a\x07", 1),
        ("a\r\nb\x1b[2J", 2),
        ("a\vb\r\rc\u202ed", 4),
        ("a\n\n\n\x00", 4),
        ("\ud800", 1),
    ],
)
def test_bad_note_names_the_line(example: dict[str, Any], note: str, line: int) -> None:
    with pytest.raises(ValidationError) as caught:
        SmartAccountRequest.model_validate(example | {"note_to_customer": note})
    [error] = field_errors(caught.value)
    assert error.message == (
        f"must not contain control or invisible characters, but line {line} does"
    )


@pytest.mark.parametrize("name", ["חברת אקמה (ACME)\u200f", "\u200eشركة أكمي"])
def test_account_name_may_have_direction_marks(example: dict[str, Any], name: str) -> None:
    assert SmartAccountRequest.model_validate(example | {"account_name": name}).account_name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("\u200e \u200f", "must not be empty"),
        ("https\u200e://evil.example", "must not contain a web address"),
        ("evil.example\u200f/login", "must not contain a web address"),
        ("Acme\u200b", "control or invisible characters"),
    ],
)
def test_bad_account_name(example: dict[str, Any], name: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SmartAccountRequest.model_validate(example | {"account_name": name})


def test_open_requests_keep_what_they_have(example: dict[str, Any]) -> None:
    """An open request reads its start input again. Its values must not change."""
    text = "A\u00a0note \u200c with\u3000spaces, 'quotes' & <brackets>"
    values = example | {"note_to_customer": text, "user_emails": ["o'neil@acme.example"]}
    with rules_of_open_requests():
        request = SmartAccountRequest.model_validate(values)
    assert (request.note_to_customer, request.user_emails) == (text, ("o'neil@acme.example",))
    assert plain_text(text) == text
