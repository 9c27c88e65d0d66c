"""System checks that need nothing but the request itself."""

import unicodedata

import idna

from smart_accounts.messages import SmartAccountRequest


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
    """Whether a label has letters of two scripts; the first word of a name tells the script."""
    return any(
        len({unicodedata.name(char, "?").split()[0] for char in label if char.isalpha()}) > 1
        for label in idna.decode(domain).split(".")
    )
