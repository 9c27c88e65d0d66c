"""Addresses in texts: which are found and removed, and which are those of other people."""

import pytest
from pydantic import TypeAdapter

from smart_accounts.contract.fields import EmailAddress
from smart_accounts.store.mentions import Mentions, mailboxes_in

ADA = "ada@acme.example"
# Addresses of other people.
OTHERS = (
    "jo.ada@acme.example x-ada@acme.example bo+ada@acme.example o'ada@acme.example"
    " r&ada@acme.example jo!ada@acme.example jo#ada@acme.example jo$ada@acme.example"
    " jo%ada@acme.example jo*ada@acme.example jo^ada@acme.example jo`ada@acme.example"
    " jo~ada@acme.example jo_ada@acme.example ada@acme.example.org ada@acme.examples"
    " ada@acme.example-x ada@acme.example.com"
)
# In a longer text, these read as Ada's address after another word.
OTHERS_ALONE = (
    "jo=ada@acme.example jo/ada@acme.example jo?ada@acme.example jo|ada@acme.example"
    " jo{ada@acme.example jo}ada@acme.example jo--ada@acme.example o''ada@acme.example"
)


@pytest.mark.parametrize(
    "text",
    [
        "<ADA@Acme.Example>:",
        "ada+news@acme.example.",
        "'ada@acme.example'",
        "mailto:ada@acme.example?subject=x",
        "-ada@acme.example",
        "...ada@acme.example, too",
        "/ada@acme.example",
        "'ada@acme.example",
        "said:'ada@acme.example'",
    ],
)
def test_address_is_removed_from_text(text: str) -> None:
    mentions = Mentions([ADA])
    removed = mentions.removed({"a": [f"{text} {OTHERS}"]})["a"][0]
    assert "erased" in removed
    assert removed.endswith(OTHERS)
    assert ADA not in removed.removesuffix(OTHERS).lower()
    assert ADA in set(mailboxes_in(text))


@pytest.mark.parametrize("text", [f"{mark}ada@acme.example" for mark in ("to=", "Ada/", "Ada|")])
def test_address_after_another_word_is_removed_from_text(text: str) -> None:
    assert Mentions([ADA]).removed(f"See {text}.") == f"See {text.replace(ADA, 'erased')}."


@pytest.mark.parametrize("address", [ADA, "Ada+News@ACME.example", "ada@acme.example.", f"-{ADA}"])
def test_value_that_is_an_address_is_replaced(address: str) -> None:
    assert Mentions([ADA]).removed([address]) == ["erased"]


@pytest.mark.parametrize("address", f"{OTHERS} {OTHERS_ALONE}".split())
def test_value_that_is_an_address_of_another_person_stays(address: str) -> None:
    assert TypeAdapter(EmailAddress).validate_python(address) == address
    mentions = Mentions([ADA])
    assert mentions.removed(address) == address
    assert not mentions.are_in(address)


def test_address_is_found_in_both_forms_of_its_domain() -> None:
    mentions = Mentions(["ada@xn--rzte-kln-zza0q.example"])
    assert mentions.removed("Ada@Ärzte-Köln.example") == "erased"
    assert mentions.removed("ada@xn--rzte-kln-zza0q.example") == "erased"
    assert "ada@xn--rzte-kln-zza0q.example" in set(mailboxes_in("(Ada@Ärzte-Köln.example)"))


def test_long_text_takes_no_time() -> None:
    mentions = Mentions([ADA])
    for long in ("ada+" * 20_000, "ada'" * 20_000, "ada" * 20_000, "ada@acme." * 10_000):
        assert mentions.removed(long) == long
        assert ADA not in set(mailboxes_in(long))
