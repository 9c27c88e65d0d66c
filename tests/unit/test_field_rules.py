"""Every field rule: one message per field, which does not quote the value."""

import json
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from publicsuffixlist import PublicSuffixList
from pydantic import ValidationError

from smart_accounts.contract import domains, fields
from smart_accounts.contract.actions import ActionResult
from smart_accounts.contract.characters import HIDDEN
from smart_accounts.contract.field_errors import FieldError, field_errors
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.steps import IssueLink


def test_unknown_fields_of_a_newer_release_are_ignored() -> None:
    written = {"status": "pending", "message": "Done.", "a newer field": 1}
    assert ActionResult.model_validate(written).message == "Done."


def test_public_suffixes_are_those_of_the_package() -> None:
    complete = PublicSuffixList()
    assert domains._suffixes._publicsuffix == complete._publicsuffix
    assert domains._suffixes._maxlabel == complete._maxlabel


def errors(values: Any) -> list[FieldError]:
    with pytest.raises(ValidationError) as caught:
        SmartAccountRequest.model_validate_json(json.dumps(values))
    return field_errors(caught.value)


IS_HIDDEN = "control or invisible characters"
NOT_AN_ADDRESS = "must be one email address"
LONG_LOCAL = "a" * 65 + "@acme.example"
LONG_ADDRESS = "a@" + ".".join(["b" * 60] * 5) + ".example"

BAD: list[tuple[str, Any, str]] = [
    ("account_name", "Acme\x00", IS_HIDDEN),
    ("account_name", "Acme\r\nBcc: x@y.example", IS_HIDDEN),
    ("account_name", "Acme\tNetworks", IS_HIDDEN),
    ("account_name", "Acme\u2028Networks", IS_HIDDEN),
    ("account_name", "Acme \u202egro.elpmaxe", IS_HIDDEN),
    ("account_name", "Acme \u2066x\u2069", IS_HIDDEN),
    ("account_name", "Acme\u200b", IS_HIDDEN),
    ("account_name", "<b>Acme</b>", "must not contain < or >"),
    ("account_name", "Acme https://evil.example", "must not contain a web address"),
    ("account_name", "WWW.evil.example", "must not contain a web address"),
    ("account_name", "javascript:alert(1)", "must not contain a web address"),
    ("account_name", "see evil.example/login", "must not contain a web address"),
    ("account_name", "", "must not be empty"),
    ("account_name", " \u00a0 ", "must not be empty"),
    ("account_name", "\u200c \u200d", "must not be empty"),
    ("account_name", "x" * 121, "at most 120 characters"),
    ("account_name", "Acme" + " " * 480, "at most 120 characters"),
    ("account_name", "Acme" + "\u0301" * 31, "at most 30 combining marks in a row"),
    ("note_to_customer", "Hello" + "\n" * 4096, "at most 1024 characters"),
    ("note_to_customer", "a" + "\u0316\u0301" * 16, "at most 30 combining marks in a row"),
    ("customer_email", " " * 1100 + "ada@acme.example", "at most 254 characters"),
    ("account_domain", "a." * 130 + "example", "at most 253 characters"),
    ("account_domain", "ü." * 120 + "example", "at most 253 characters"),
    ("acceptance_window", "P" + "0" * 100 + "90D", "ISO 8601 duration"),
    ("account_name", 7, "must be text"),
    ("account_name", None, "is required"),
    ("customer_email", "ada", NOT_AN_ADDRESS),
    ("customer_email", "a@x.example, evil@x.example", NOT_AN_ADDRESS),
    ("customer_email", "Ada <ada@acme.example>", NOT_AN_ADDRESS),
    ("customer_email", "ada@acme.example\r\nBcc: evil@x.example", NOT_AN_ADDRESS),
    ("customer_email", "ada@acme.example\x00", NOT_AN_ADDRESS),
    ("customer_email", "=?utf-8?q?ada?=@acme.example", "without =?"),
    ("customer_email", LONG_LOCAL, NOT_AN_ADDRESS),
    ("customer_email", LONG_ADDRESS, NOT_AN_ADDRESS),
    ("customer_email", '"a b"@acme.example', NOT_AN_ADDRESS),
    ("customer_email", ["ada@acme.example"], "must be text"),
    ("customer_email", None, "is required"),
    ("customer_email", "PAT@partner.example", "must differ from the requester's"),
    ("account_domain", "acme", "at least two parts"),
    ("account_domain", "https://acme.example", "must be a domain name"),
    ("account_domain", "acme.example:443", "must be a domain name"),
    ("account_domain", "acme.example/x", "must be a domain name"),
    ("account_domain", "ada@acme.example", "must be a domain name"),
    ("account_domain", "-acme.example", "must be a domain name"),
    ("account_domain", "10.0.0.1", "at least two parts"),
    ("account_domain", "a" * 64 + ".example", "must be a domain name"),
    ("account_domain", "co.uk", "not a public suffix"),
    ("account_domain", "github.io", "not a public suffix"),
    ("account_domain", "gmail.com", "not a free-mail provider's"),
    ("account_domain", "mail.gmail.com", "not a free-mail provider's"),
    ("account_domain", 7, "must be text"),
    ("note_to_customer", "x" * 1025, "at most 1024 characters"),
    ("note_to_customer", "a\x07b", IS_HIDDEN),
    ("note_to_customer", "a\u202eb", IS_HIDDEN),
    ("note_to_customer", 7, "must be text"),
    ("note_to_added_users", "x" * 1025, "at most 1024 characters"),
    ("note_to_added_users", "a\x1bb", IS_HIDDEN),
    ("user_emails", ["bo@acme.example", "bo"], "entry 2 must be one email address"),
    ("user_emails", ["a@x.example, b@x.example"], "entry 1 must be one email address"),
    ("user_emails", ["a@x.example <b@x.example>"], "entry 1 must be one email address"),
    ("user_emails", [f"u{n}@acme.example" for n in range(51)], "at most 50 addresses"),
    ("user_emails", "bo@acme.example", "must be a list"),
    ("user_emails", [7], "entry 1 must be text"),
    ("requester", None, "is required"),
    ("requester", "pat@partner.example", "must be an object"),
    ("acceptance_window", "PT0S", "between PT1S and P365D"),
    ("acceptance_window", "PT0.5S", "between PT1S and P365D"),
    ("acceptance_window", "-P1D", "must be an ISO 8601 duration"),
    ("acceptance_window", "P366D", "between PT1S and P365D"),
    ("acceptance_window", "P3M", "must be an ISO 8601 duration"),
    ("acceptance_window", "P1Y", "must be an ISO 8601 duration"),
    ("acceptance_window", "P", "must be an ISO 8601 duration"),
    ("acceptance_window", "90", "must be an ISO 8601 duration"),
    ("acceptance_window", 90, "must be an ISO 8601 duration"),
    ("acceptance_window", "P99999999999D", "must be"),
    ("reminders", ["soon"], "entry 1 must be an ISO 8601 duration"),
    ("reminders", ["P1D"] * 11, "must have at most 10 entries"),
    ("colour", "red", "is not a known field"),
]


@pytest.mark.parametrize(("field", "value", "message"), BAD, ids=lambda value: repr(value)[:40])
def test_bad_value(example: dict[str, Any], field: str, value: Any, message: str) -> None:
    found = errors(example | {field: value})
    assert [error.field for error in found] == [field]
    assert message in found[0].message
    if isinstance(value, str) and len(value) > 8:
        assert value not in found[0].message


@pytest.mark.parametrize("field", ["email", "name", "company"])
def test_bad_requester(example: dict[str, Any], field: str) -> None:
    found = errors(example | {"requester": example["requester"] | {field: "a\nb"}})
    assert [error.field for error in found] == [f"requester.{field}"]


def test_one_message_per_bad_field(example: dict[str, Any]) -> None:
    found = errors(example | {"account_name": "", "customer_email": "x", "note_to_customer": 1})
    assert [error.field for error in found] == [
        "account_name",
        "customer_email",
        "note_to_customer",
    ]


def test_bad_email_without_a_domain_is_one_error(example: dict[str, Any]) -> None:
    del example["account_domain"]
    found = errors(example | {"customer_email": "ada"})
    assert [error.field for error in found] == ["customer_email"]


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_input_that_is_not_an_object(value: Any) -> None:
    found = errors(value)
    assert [(error.field, error.message) for error in found] == [("request", "must be an object")]


GOOD: list[tuple[str, Any, Any]] = [
    ("account_name", "  Acme \u00a0 Networks ", "Acme Networks"),
    ("account_name", "Cafe\u0301", "Caf\u00e9"),
    ("account_name", "x" * 120, "x" * 120),
    ("account_name", "Example.com & Söhne", "Example.com & Söhne"),
    ("customer_email", "Ada@ACME.example", "Ada@acme.example"),
    ("customer_email", "ada@münchen.example", "ada@xn--mnchen-3ya.example"),
    ("account_domain", "ACME.Example.", "acme.example"),
    ("account_domain", "münchen.example", "xn--mnchen-3ya.example"),
    ("account_domain", "acme.co.uk", "acme.co.uk"),
    ("account_domain", None, "acme.example"),
    ("note_to_customer", "a\r\nb\rc", "a\nb\nc"),
    ("note_to_customer", "  ", None),
    ("note_to_customer", "x" * 1024, "x" * 1024),
    (
        "user_emails",
        ["bo@acme.example", "cy@acme.example", "BO@acme.example"],
        ("bo@acme.example", "cy@acme.example"),
    ),
]


@pytest.mark.parametrize(("field", "value", "kept"), GOOD, ids=lambda value: repr(value)[:40])
def test_normalised_value(example: dict[str, Any], field: str, value: Any, kept: Any) -> None:
    request = SmartAccountRequest.model_validate_json(json.dumps(example | {field: value}))
    assert getattr(request, field) == kept


@pytest.mark.parametrize("window", ["PT1S", "P365D", "P1DT2H3M4.5S", "P2W"])
def test_window_survives_the_wire(example: dict[str, Any], window: str) -> None:
    request = SmartAccountRequest.model_validate(example | {"acceptance_window": window})
    assert SmartAccountRequest.model_validate_json(request.model_dump_json()) == request


def test_customer_is_not_also_an_added_user(example: dict[str, Any]) -> None:
    request = SmartAccountRequest.model_validate(
        example | {"user_emails": ["ADA@acme.example", "bo@acme.example"]}
    )
    assert request.added_users == ("bo@acme.example",)


@pytest.mark.parametrize("email", ["pat+x@partner.example", "PAT+y@Partner.example"])
def test_customer_is_not_another_address_of_the_requester(
    example: dict[str, Any], email: str
) -> None:
    with pytest.raises(ValidationError, match="must differ from the requester's address"):
        SmartAccountRequest.model_validate(example | {"customer_email": email})
    with fields.rules_of_open_requests():
        request = SmartAccountRequest.model_validate(example | {"customer_email": email})
    IssueLink(request_id="one", request=request, ordinal=2, at=datetime.now(UTC))


def test_two_users_with_one_mailbox_are_one_error(example: dict[str, Any]) -> None:
    users = {"user_emails": ["bo@acme.example", "cy@acme.example", "BO+1@acme.example"]}
    with pytest.raises(ValidationError, match="entries 1 and 3 are the same mailbox"):
        SmartAccountRequest.model_validate(example | users)
    with fields.rules_of_open_requests():
        SmartAccountRequest.model_validate(example | users)


VISIBLE = "\u200c\u200d\u200e\u200f"  # joiners and direction marks, which several scripts need


def test_hidden_characters_are_those_of_unicode() -> None:
    """The table may know more characters than the Unicode version of this Python."""
    for char in map(chr, range(sys.maxunicode + 1)):
        category = unicodedata.category(char)
        is_hidden = category in {"Cc", "Cf", "Cs", "Zl", "Zp"} and char not in VISIBLE
        in_table = HIDDEN.match(char) is not None
        assert in_table == is_hidden or (in_table and category == "Cn"), hex(ord(char))
