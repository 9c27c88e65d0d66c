"""System checks that look only at the request itself."""

import unicodedata

import idna

from smart_accounts.contract.domains import is_on_long_list, is_public_suffix
from smart_accounts.contract.messages import SmartAccountRequest

REPORTED = "A customer reported an earlier request of this requester."
"""A reason for a review that only the store knows."""

_SCRIPTS_OF_ONE_LANGUAGE = (
    # Japanese. KATAKANA-HIRAGANA is the prolonged sound mark, IDEOGRAPHIC the iteration mark.
    {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC"},
    {"CJK", "HANGUL"},  # Korean
)


def reasons_for_review(request: SmartAccountRequest) -> tuple[str, ...]:
    """Return why an operator must approve the request first. The request stays valid."""
    found = []
    customer_domain = request.customer_email.rpartition("@")[2]
    if not _vouches_for(customer_domain, request.account_domain):
        found.append("The customer's address is not at the account's domain.")
    if any(_mixes_scripts(domain) for domain in (customer_domain, request.account_domain)):
        found.append("A domain mixes alphabets and may imitate another domain.")
    if is_on_long_list(request.account_domain):
        found.append("The account's domain gives email addresses to everybody.")
    return tuple(found)


def _vouches_for(customer_domain: str, account_domain: str) -> bool:
    """Return True if the customer's address is at the account's domain or at a parent of it.

    Somebody at a subdomain may be anybody, for example a customer of a hosting company.
    """
    if customer_domain == account_domain:
        return True
    is_parent = account_domain.endswith(f".{customer_domain}")
    return is_parent and not is_public_suffix(customer_domain)


def _mixes_scripts(domain: str) -> bool:
    """Return True if one label mixes scripts that no language mixes."""
    return any(
        len(scripts) > 1 and not any(scripts <= known for known in _SCRIPTS_OF_ONE_LANGUAGE)
        for scripts in map(_scripts, idna.decode(domain).split("."))
    )


def _scripts(label: str) -> set[str]:
    """Return the scripts of the letters: the first word of each letter's Unicode name."""
    return {unicodedata.name(char, "?").split()[0] for char in label if char.isalpha()}
