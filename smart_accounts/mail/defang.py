"""Break text that a mail client could turn into a link: ``evil.example`` → ``evil[.]example``."""

import re
from typing import NamedTuple

# Mail clients treat these look-alikes as the ASCII character.
_DOTS = r".\u2024\ufe52"  # one dot leader, small full stop
_IDEOGRAPHIC_DOTS = r"\u3002\uff0e\uff61"  # ideographic, fullwidth and halfwidth full stop
_COLONS = r":\uff1a\ufe55"
_AT_SIGNS = r"@\uff20\ufe6b"
_SLASHES = r"/\uff0f\\"

_DOMAIN_CHARACTER = r"(?:[\w-]|[^\x00-\x7f\s])"  # emoji and combining marks are allowed too
_LATIN = r"[0-9a-z-]"
_JOINERS = r"[\u200c\u200d]*"  # invisible
_SCHEMES = ("mailto", "tel", "sms", "callto", "skype", "news")
_AFTER_SCHEME = "|".join(rf"(?<=\b{scheme})" for scheme in _SCHEMES)


class Rule(NamedTuple):
    """``pattern`` matches only the characters that are put in brackets."""

    name: str
    pattern: str


RULES = (
    # A top-level domain starts with a letter and has two or more characters. This leaves "3.5",
    # "e.g. this" and "end. Next" unchanged.
    Rule(
        "dot in a domain",
        rf"(?<={_DOMAIN_CHARACTER})[{_DOTS}](?={_JOINERS}[^\W\d_]{_DOMAIN_CHARACTER})",
    ),
    # Japanese and Chinese sentences end with an ideographic dot, so a Latin letter or a digit has
    # to stand on one side of it.
    Rule("ideographic dot after Latin", rf"(?<={_LATIN})[{_IDEOGRAPHIC_DOTS}](?=\w)"),
    Rule("ideographic dot before Latin", rf"(?<=\w)[{_IDEOGRAPHIC_DOTS}](?=[0-9a-z])"),
    # These prefixes make a link of any text that follows.
    Rule("dot after www or ftp", r"(?<=\bwww|\bftp)[.](?=\S)"),
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
    return _LINKABLE.sub(lambda match: re.sub(r"(\D)", r"[\1]", match[0]), text)
