"""Find and remove the addresses of a person in any text of the database.

An address stands for its mailbox: letter case and ``+tag`` do not matter, and a domain is found in
both its forms. Somebody else's address that only begins or ends in the same way is not found. A
text that is nothing but an address is compared as a whole. Elsewhere, ``=``, ``/``, ``?``, ``|``
and braces before an address separate it from a word, as in ``rcpt=ada@acme.example``.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

import idna
from sqlalchemy import JSON, Column, ColumnElement, String, Table, Text, cast, func, or_

from smart_accounts.contract.domains import mailbox
from smart_accounts.store.records import ERASED

_ATEXT = r"\w.!#$%&'*+/=?^`{|}~-"  # what an address may have before the @
_JOINING = r".!#$%&'*+^`~-"  # those that join two words, as in o'brien@acme.example
_ADDRESS = re.compile(rf"[{_ATEXT}]{{1,64}}@[\w.-]{{3,253}}")
_IDN = "xn--"


class Mentions:
    """Texts that name a person by one of their addresses."""

    def __init__(self, mailboxes: Collection[str]) -> None:
        self._mailboxes = mailboxes
        patterns = "|".join(map(_pattern, sorted(mailboxes)))
        self._pattern = re.compile(patterns, re.IGNORECASE)

    def are_in(self, value: Any) -> bool:
        """Return True if a value of any column names the person."""
        return bool(self.removed(value) != value)

    def removed(self, value: Any) -> Any:
        """Return the value of any column with each of the person's addresses replaced."""
        match value:
            case str() if _ADDRESS.fullmatch(value):
                is_theirs = any(each in self._mailboxes for each in mailboxes_in(value))
                return ERASED if is_theirs else value
            case str():
                return self._pattern.sub(ERASED, value)
            case list():
                return [self.removed(each) for each in value]
            case dict():
                return {key: self.removed(each) for key, each in value.items()}
        return value

    def may_be_in(self, table: Table) -> ColumnElement[bool]:
        """Return a condition for rows that may name the person. A few others match too."""
        patterns = list(map(_like, self._mailboxes))
        return or_(
            *(
                func.lower(cast(column, Text)).like(pattern, escape="/")
                for column in text_columns(table)
                for pattern in patterns
            )
        )


def text_columns(table: Table) -> list[Column[Any]]:
    """Return the columns that can hold an address. New columns are among them."""
    return [column for column in table.c if isinstance(column.type, String | JSON)]


def mailboxes_in(value: Any) -> Iterator[str]:
    """Yield the mailbox of each address in a value of any column."""
    match value:
        case str():
            for found in _ADDRESS.findall(value):
                address = found.rstrip(".-")
                yield _normalised(address)
                # Quotes and brackets around an address may be a part of it.
                yield _normalised(address.lstrip(".!#$%&'*+/=?^`{|}~-"))
        case list() | dict():
            for each in value.values() if isinstance(value, dict) else value:
                yield from mailboxes_in(each)


def _normalised(address: str) -> str:
    local, _, domain = mailbox(address).rpartition("@")
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode()
        except idna.IDNAError:
            return address
    return f"{local}@{domain}"


def _pattern(its_mailbox: str) -> str:
    local, _, domain = its_mailbox.rpartition("@")
    domains = {domain, _unicode(domain)}
    either = "|".join(map(re.escape, domains))
    # A longer address is somebody else's: jo.ada@acme.example, ada@acme.example.org.
    before, after = rf"(?<!\w)(?<!\w[{_JOINING}])", r"(?![\w-])(?!\.\w)"
    return rf"{before}{re.escape(local)}(\+[{_ATEXT}]*)?@({either}){after}"


def _unicode(domain: str) -> str:
    try:
        return idna.decode(domain)
    except idna.IDNAError:  # earlier releases accepted more domains
        return domain


def _like(its_mailbox: str) -> str:
    local, _, domain = its_mailbox.rpartition("@")
    # JSON escapes the letters of a domain that are not ASCII, and SQLite ignores case only in
    # ASCII. So such a domain is left to the pattern.
    text = re.sub(r"[%_/]", r"/\g<0>", local) + "%@"
    return f"%{text}%" if _IDN in domain else f"%{text}{domain}%"
