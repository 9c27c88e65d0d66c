"""Which requests an operator must review, and which domains give addresses to everybody."""

from collections.abc import Iterator
from typing import Any

import pytest

from smart_accounts.checks import reasons_for_review
from smart_accounts.contract.domains import allow_free_mail, is_free_mail, is_on_long_list
from smart_accounts.contract.messages import SmartAccountRequest


@pytest.mark.parametrize(
    ("domain", "flagged"),
    [
        ("サーバー.jp", False),
        ("日本のサイト.jp", False),
        ("佐々木.jp", False),
        ("大韓민국.example", False),
        ("bücher.example", False),
        ("аcme.example", True),  # noqa: RUF001 - the first letter is Cyrillic
        ("サイトacme.jp", True),
        ("のの민국.example", True),
    ],
)
def test_domain_that_mixes_scripts_is_flagged(
    example: dict[str, Any], domain: str, flagged: bool
) -> None:
    changes = {"account_domain": domain, "customer_email": f"ada@{domain}"}
    request = SmartAccountRequest.model_validate(example | changes)
    warning = ("A domain mixes alphabets and may imitate another domain.",)
    assert reasons_for_review(request) == (warning if flagged else ())


NOT_THERE = "The customer's address is not at the account's domain."
FOR_EVERYBODY = "The account's domain gives email addresses to everybody."


@pytest.mark.parametrize(
    ("customer_domain", "account_domain", "reasons"),
    [
        ("acme.example", "acme.example", ()),
        ("acme.example", "eu.acme.example", ()),
        ("eu.acme.example", "acme.example", (NOT_THERE,)),
        ("notacme.example", "acme.example", (NOT_THERE,)),
        ("gmail.com", "acme.example", (NOT_THERE,)),
        ("co.uk", "acme.co.uk", (NOT_THERE,)),
        ("github.io", "acme.github.io", (NOT_THERE,)),
        ("telstra.com", "telstra.com", (FOR_EVERYBODY,)),
        ("telstra.com", "mail.telstra.com", (FOR_EVERYBODY,)),
    ],
)
def test_reasons_for_review(
    example: dict[str, Any], customer_domain: str, account_domain: str, reasons: tuple[str, ...]
) -> None:
    changes = {"customer_email": f"ada@{customer_domain}", "account_domain": account_domain}
    assert reasons_for_review(SmartAccountRequest.model_validate(example | changes)) == reasons


@pytest.fixture
def gmail_is_allowed() -> Iterator[None]:
    allow_free_mail(["gmail.com"])
    yield
    allow_free_mail([])


def test_exception_for_a_free_mail_domain_goes_to_review(
    example: dict[str, Any], gmail_is_allowed: None
) -> None:
    changes = {"customer_email": "ada@gmail.com", "account_domain": "gmail.com"}
    request = SmartAccountRequest.model_validate(example | changes)
    assert reasons_for_review(request) == (FOR_EVERYBODY,)


@pytest.mark.parametrize("domain", ["internode.on.net", "pp.inet.fi", "any.internode.on.net"])
def test_domain_below_a_registered_one_is_on_the_long_list(domain: str) -> None:
    assert is_on_long_list(domain)
    assert not is_on_long_list(domain.partition(".")[2].replace("internode.", ""))


@pytest.mark.parametrize("domain", ["yahoo.com.is", "any.gmail.com"])
def test_domain_below_a_registered_one_is_free_mail(domain: str) -> None:
    assert is_free_mail(domain)
