"""Addresses in texts: which are found and removed, and which are those of other people."""

import pytest

from smart_accounts.store.mentions import Mentions, mailboxes_in

ADA = "ada@acme.example"
# Addresses of other people.
OTHERS = "jo.ada@acme.example x-ada@acme.example ada@acme.example.org ada@acme.examples"


@pytest.mark.parametrize(
    "text",
    [
        "<ADA@Acme.Example>:",
        "ada+news@acme.example.",
        "'ada@acme.example'",
        "mailto:ada@acme.example?subject=x",
        "-ada@acme.example",
        "...ada@acme.example, too",
    ],
)
def test_address_is_removed_from_text(text: str) -> None:
    mentions = Mentions([ADA])
    removed = mentions.removed({"a": [f"{text} {OTHERS}"]})["a"][0]
    assert "erased" in removed
    assert removed.endswith(OTHERS)
    assert ADA not in removed.removesuffix(OTHERS).lower()
    assert ADA in set(mailboxes_in(text))


def test_address_is_found_in_both_forms_of_its_domain() -> None:
    mentions = Mentions(["ada@xn--rzte-kln-zza0q.example"])
    assert mentions.removed("Ada@Ärzte-Köln.example") == "erased"
    assert mentions.removed("ada@xn--rzte-kln-zza0q.example") == "erased"
    assert "ada@xn--rzte-kln-zza0q.example" in set(mailboxes_in("(Ada@Ärzte-Köln.example)"))


def test_long_text_takes_no_time() -> None:
    mentions = Mentions([ADA])
    for long in ("ada+" * 20_000, "ada" * 20_000, "ada@acme." * 10_000):
        assert mentions.removed(long) == long
        assert ADA not in set(mailboxes_in(long))
