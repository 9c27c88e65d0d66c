"""Decide from a mail server's reply whose fault it is that the server refused an email."""

import re
from enum import Enum, auto

NOT_ACCEPTED = "Our mail server does not accept emails at the moment."
"""Stored instead of a reply if the server takes no emails from us, for any recipient."""

_CODES = re.compile(r"\s*([45]\d\d)?[ -]*#?([45]\.\d{1,3}\.\d{1,3}(?![\d.]))?")
# Subject and detail of an enhanced status code (RFC 3463 §3).
_UNDEFINED = "0.0"
_ABOUT_RECIPIENT = {"1.1", "1.2", "1.3", "1.6", "1.10", "2.1"}
_MAILBOX_FULL = "2.2"
_NO_ANSWER_FROM_HOST = "4.1"  # Exchange Online uses it for unknown recipients.
_STORAGE_EXCEEDED = "552"
_ABOUT_US = re.compile(
    r"polic|sender|\bspf\b|dkim|dmarc|\bhelo\b|\behlo\b|host ?name|reverse|\bptr\b|relay"
    r"|spam|black ?list|block|\brbl\b|dnsbl|reputation|listed|denied|prohibit|authenticat|\bip\b"
    r"|not (?:permitted|allowed|authori[sz]ed)|content|virus",
    re.IGNORECASE,
)
_FULL = re.compile(r"\bfull\b|quota|storage", re.IGNORECASE)


class Fault(Enum):
    RECIPIENT = auto()
    """The address takes no emails. The requester can use another one."""
    TEMPORARY = auto()
    """The server may take the email later. Try again for five days."""
    SENDER = auto()
    """The server refuses us, not this address. An operator must look at it."""


def split_codes(reply: str) -> tuple[str, str]:
    """Return the SMTP code and the status code that a reply begins with. Each may be empty."""
    found = _CODES.match(reply)
    return (found[1] or "", found[2] or "") if found else ("", "")


def codes_of(reply: str) -> str:
    """Return only the codes that the reply begins with, because its text may name an address."""
    return " ".join(filter(None, split_codes(reply)))


def fault_of(reply: str, recipient: str, *, is_about_content: bool = False) -> Fault:
    """Return whose fault a refusal is. Its reply begins with an SMTP code, a status code, or both.

    ``is_about_content`` is True for a reply to DATA, which comes after the recipient was accepted.
    """
    code, status = split_codes(reply)
    if code.startswith("4") or status.startswith("4"):
        return Fault.TEMPORARY
    text = re.sub(re.escape(recipient), "", reply, flags=re.IGNORECASE)
    detail = status[2:]
    if detail and detail != _UNDEFINED:
        names_recipient = text != reply or "recipient" in text.lower()
        return _fault_of_detail(detail, names_recipient=names_recipient)
    if code == _STORAGE_EXCEEDED or (code and _FULL.search(text)):
        return Fault.TEMPORARY
    is_plain_refusal = code in ("550", "551", "553") and not is_about_content
    return Fault.RECIPIENT if is_plain_refusal and not _ABOUT_US.search(text) else Fault.SENDER


def _fault_of_detail(detail: str, *, names_recipient: bool) -> Fault:
    if detail == _MAILBOX_FULL:
        return Fault.TEMPORARY
    is_unknown = detail == _NO_ANSWER_FROM_HOST and names_recipient
    return Fault.RECIPIENT if is_unknown or detail in _ABOUT_RECIPIENT else Fault.SENDER
