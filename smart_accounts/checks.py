"""System checks that look only at the request itself."""

import unicodedata

import idna

from smart_accounts.contract.messages import SmartAccountRequest

_SCRIPTS_OF_ONE_LANGUAGE = (
    # Japanese. KATAKANA-HIRAGANA is the prolonged sound mark, IDEOGRAPHIC the iteration mark.
    {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC"},
    {"CJK", "HANGUL"},  # Korean
)


def oddities(request: SmartAccountRequest) -> tuple[str, ...]:
    """Return what the requester and an operator should look at. The request stays valid."""
    found = []
    customer_domain = request.customer_email.rpartition("@")[2]
    if not _same_or_parent(customer_domain, request.account_domain):
        found.append("The customer's address is not at the account's domain.")
    if any(_mixes_scripts(domain) for domain in (customer_domain, request.account_domain)):
        found.append("A domain mixes scripts and may imitate another domain.")
    return tuple(found)


def _same_or_parent(one: str, other: str) -> bool:
    return f".{one}".endswith(f".{other}") or f".{other}".endswith(f".{one}")


def _mixes_scripts(domain: str) -> bool:
    """Return True if one label mixes scripts that no language mixes."""
    return any(
        len(scripts) > 1 and not any(scripts <= known for known in _SCRIPTS_OF_ONE_LANGUAGE)
        for scripts in map(_scripts, idna.decode(domain).split("."))
    )


def _scripts(label: str) -> set[str]:
    """Return the scripts of the letters: the first word of each letter's Unicode name."""
    return {unicodedata.name(char, "?").split()[0] for char in label if char.isalpha()}
