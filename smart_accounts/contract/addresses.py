"""Email addresses as people paste them from other programs, such as ``Bo <bo@acme.example>``."""

import re
from collections.abc import Iterator

from smart_accounts.contract.characters import JOINERS, LAYOUT, MARKS

_INVISIBLE = re.compile(f"[{LAYOUT}{MARKS}]")
_WRAPPINGS = ("<>", "''", '""')
_LINES = re.compile("[;\n\r\v\f\x85\u2028\u2029]+")
_BRACKETED = re.compile("<[^<>]*>")
_QUOTED = re.compile(r"""("[^"]*"|'[^']*')\s*$""")
_WORD_END = re.compile(r"[\s,]|$")
# These match only at the beginning of a word. Without this condition, a long word takes seconds.
_WORD = re.compile(r"(?<![^\s,])[^\w\s,@]*[\w@][^\s,]*")  # not the bullets of a list
_LINK = re.compile(  # as Outlook copies it: bo@acme.example<mailto:bo@acme.example>
    r"(?<![^\s,;<>])([^\s,;<>]+) ?<(?:mailto:)?\1>", re.IGNORECASE
)
_OLD_LINK = re.compile(r"\[(mailto:[^\s<>\[\]]*)\]", re.IGNORECASE)


def bare_address(pasted: str) -> str:
    """Return an address without invisible characters, brackets, quotes and ``mailto:``."""
    # Joiners are removed only at the ends, because some domains have them inside.
    address = _INVISIBLE.sub("", pasted).strip().strip(JOINERS)
    if address[:1] + address[-1:] in _WRAPPINGS:
        address = address[1:-1].strip()
    if address[:7].lower() == "mailto:":
        return address[7:].partition("?")[0]
    return address


def split_addresses(pasted: str) -> Iterator[str]:
    """Yield the entries of a list of addresses, each with its display name.

    Commas, semicolons, spaces and line breaks separate entries. Before an address in brackets,
    words without ``@`` are its name, which may have commas, as in ``Bell, Bo <bo@acme.example>``.
    """
    text = _OLD_LINK.sub(r"<\1>", _INVISIBLE.sub("", pasted))
    if "<" in text:
        text = _LINK.sub(r"<\1>", text)
    for line in _LINES.split(text):
        end = 0
        for address in _BRACKETED.finditer(line):
            yield from _entries(line[end : address.start()], address[0])
            end = address.end()
        yield from _words(line[end:])


def _entries(before: str, address: str) -> Iterator[str]:
    """Yield the entries before an address in brackets, then the address with its name."""
    if quoted := _QUOTED.search(before):
        name_at = quoted.start()
    else:
        last = before.rfind("@") + 1
        end = _WORD_END.search(before, last) if last else None
        name_at = end.start() if end else 0
    yield from _words(before[:name_at])
    yield f"{before[name_at:].strip(' ,')} {address}".strip()


def _words(text: str) -> Iterator[str]:
    return (word[0] for word in _WORD.finditer(text))
