"""Break text that a mail client could turn into a link: ``evil.example`` → ``evil[.]example``."""

import re
from typing import NamedTuple

from smart_accounts.contract.characters import JOINERS, MARKS
from smart_accounts.contract.domains import is_listed_suffix

# Mail clients treat these look-alikes as the ASCII character.
_DOTS = r".\u2024\ufe52"  # one dot leader, small full stop
_IDEOGRAPHIC_DOTS = r"\u3002\uff0e\uff61"  # ideographic, fullwidth and halfwidth full stop
_COLONS = r":\uff1a\ufe55"
_AT_SIGNS = r"@\uff20\ufe6b"
_SLASHES = r"/\uff0f\\"

_DOMAIN_CHARACTER = r"(?:[\w-]|[^\x00-\x7f\s])"  # emoji and combining marks are allowed too
_LATIN = r"[0-9a-z-]"
_ASCII_LABEL = r"(?P<label>(?a:[a-z][a-z0-9-]++))(?![^\x00-\x7f\s\u2010-\u2027])"
_INVISIBLE = f"[{JOINERS}{MARKS}]*"
_SCHEMES = ("mailto", "tel", "sms", "callto", "skype", "news")
_AFTER_SCHEME = "|".join(rf"(?<=\b{scheme})" for scheme in _SCHEMES)


# "GmbH & Co.KG" is the legal form of many companies. No mail client turns it into a link.
_LEGAL_FORM = r"(?-i:(?<=(?<![\w.@/-])Co)[.]KG)(?![\w:@/-]|[.]\w)"
# Domains for tests and private networks (RFC 2606, RFC 6761). Mail clients may link them.
_RESERVED = {"example", "home", "internal", "invalid", "lan", "local", "onion", "test"}
_UNLISTED = {"za"}  # The list has only the domains below it, such as co.za.


class Rule(NamedTuple):
    """``pattern`` matches only the characters that are put in brackets."""

    name: str
    pattern: str


RULES = (
    # These prefixes make a link of any text that follows, so this rule comes first.
    Rule("dot after www or ftp", r"(?<=\bwww|\bftp)[.](?=\S)"),
    # A top-level domain starts with a letter and has two or more characters. This leaves "3.5",
    # "e.g. this" and "end. Next" unchanged. `defang` looks up a label that is all in ASCII. Other
    # characters, except punctuation, may stand for ASCII, or a browser ignores them in a domain.
    Rule(
        "dot in a domain",
        rf"(?<={_DOMAIN_CHARACTER})(?!{_LEGAL_FORM})"
        rf"[{_DOTS}](?={_INVISIBLE}(?:{_ASCII_LABEL}|[^\W\d_]{_DOMAIN_CHARACTER}))",
    ),
    # Japanese and Chinese sentences end with an ideographic dot, so a Latin letter or a digit has
    # to stand on one side of it.
    Rule("ideographic dot after Latin", rf"(?<={_LATIN})[{_IDEOGRAPHIC_DOTS}](?=\w)"),
    Rule("ideographic dot before Latin", rf"(?<=\w)[{_IDEOGRAPHIC_DOTS}](?=[0-9a-z])"),
    # The whole address matches, so that each of its dots is bracketed. Dates such as 25.11.2026
    # and longer numbers stay unchanged.
    Rule("IPv4 address", r"(?<![\d.])\d{1,3}(?:[.]\d{1,3}){3}(?![.]?\d)"),
    Rule("colon before two slashes", rf"[{_COLONS}](?=[{_SLASHES}]{{2}})"),
    Rule("colon after a scheme", rf"(?:{_AFTER_SCHEME})[{_COLONS}](?=\S)"),
    # A Windows network path, such as \\server\share.
    Rule("two backslashes", r"(?<![\\\w])\\(?=\\\w)"),
    Rule("at sign in an address", rf"(?<=\S)[{_AT_SIGNS}](?=\S)"),
    # "=?" starts an encoded word (RFC 2047), which Python decodes even in a new header.
    Rule("encoded word", r"(?<==)[?]"),
)
_LINKABLE = re.compile("|".join(rule.pattern for rule in RULES), re.IGNORECASE)


def defang(text: str) -> str:
    """Return the text with brackets around the characters that could make a link.

    Escaping is not enough, because mail clients look for links in the text that they display.
    """
    return _LINKABLE.sub(_in_brackets, text)


def _in_brackets(found: re.Match[str]) -> str:
    label = found["label"]
    if label and not _is_top_level_domain(label.lower()):
        return found[0]
    return re.sub(r"(\D)", r"[\1]", found[0])


def _is_top_level_domain(label: str) -> bool:
    """Return True if a mail client may take a name that ends in this label for a domain."""
    label = label if label.startswith("xn--") else label.partition("-")[0]
    return label in _RESERVED | _UNLISTED or is_listed_suffix(label)
