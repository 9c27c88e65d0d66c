"""System checks that need nothing but the request itself."""

import unicodedata

import idna

from smart_accounts.contract.messages import SmartAccountRequest

_WRITTEN_TOGETHER = (
    # Japanese; the last two are the prolonged sound mark and the mark that repeats a character.
    {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC"},
    {"CJK", "HANGUL"},  # Korean
)


def oddities(request: SmartAccountRequest) -> tuple[str, ...]:
    """What requester and operator should look at; the request is allowed all the same."""
    found = []
    customer_domain = request.customer_email.rpartition("@")[2]
    if not _same_or_parent(customer_domain, request.account_domain):
        found.append("The customer's address is not of the account's domain.")
    if any(_mixes_scripts(domain) for domain in (customer_domain, request.account_domain)):
        found.append("A domain mixes scripts and may look like another one.")
    return tuple(found)


def _same_or_parent(one: str, other: str) -> bool:
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")


def _mixes_scripts(domain: str) -> bool:
    """Whether a label has letters of scripts that no language writes together."""
    return any(
        len(scripts) > 1 and not any(scripts <= together for together in _WRITTEN_TOGETHER)
        for scripts in map(_scripts, idna.decode(domain).split("."))
    )


def _scripts(label: str) -> set[str]:
    """The first word of a letter's name tells its script."""
    return {unicodedata.name(char, "?").split()[0] for char in label if char.isalpha()}
