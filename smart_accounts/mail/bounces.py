"""Emails that come back: the return path they left with, and the report that is sent to it."""

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser, HeaderParser
from email.utils import getaddresses

from smart_accounts.mail.smtp import RefusedPermanently

_RECIPIENT_HEADERS = ("To", "Delivered-To", "X-Original-To", "Envelope-To")


@dataclass(frozen=True)
class BounceReport:
    """``answer`` is what the mail server said, on one printable line."""

    token: str
    answer: str


def return_path(token: str, domain: str) -> str:
    return f"bounce-{token}@{domain}"


def read_bounce(raw: bytes, domain: str) -> BounceReport | None:
    """Which of our emails can't be delivered, if ``raw`` is a report that says so for good.

    Whatever else is sent to a return path, garbage included, is ``None``.
    Source: RFC 3464 (the fields) and RFC 6522 (the parts).
    """
    try:
        return _read(BytesHeaderParser().parsebytes(raw), domain)
    except Exception:  # noqa: BLE001 - the library doesn't say what it raises at garbage
        return None


def _read(report: Message, domain: str) -> BounceReport | None:
    token, recipients = _token(report, domain), _recipients(report)
    # A server may have passed the email on to several; if one has it, it did not come back.
    if token is None or not recipients or not all(map(_failed_for_good, recipients)):
        return None
    code, status = str(recipients[0].get("Diagnostic-Code", "")), str(recipients[0]["Status"])
    said = re.sub(r"^\s*[\w-]+\s*;", "", code)  # without its type, such as smtp
    return BounceReport(token, RefusedPermanently(said).answer or RefusedPermanently(status).answer)


def _token(report: Message, domain: str) -> str | None:
    """The token of our one address that the report was sent to."""
    ours = re.compile(return_path("([a-z2-7]{32})", re.escape(domain.lower())))
    headers = [str(value) for name in _RECIPIENT_HEADERS for value in report.get_all(name, [])]
    # One by one: newer versions of the library find nothing if one header is malformed.
    addresses = [address for header in headers for _, address in getaddresses([header])]
    tokens = {found[1] for each in addresses if (found := ours.fullmatch(each.lower()))}
    return tokens.pop() if len(tokens) == 1 else None


def _recipients(report: Message) -> list[Message]:
    """The fields about each recipient, from the report's second part."""
    kind, boundary = str(report.get_param("report-type")).lower(), report.get_boundary()
    if (report.get_content_type(), kind) != ("multipart/report", "delivery-status") or not boundary:
        return []
    # Split here: the library takes many seconds for parts that a stranger nested deeply.
    line = rf"(?m)^--{re.escape(boundary)}(?:--)?[ \t]*\r?\n"
    parts = re.split(line, str(report.get_payload()))
    part = HeaderParser().parsestr("".join(parts[2:3]))
    if part.get_content_type() != "message/delivery-status":
        return []
    groups = re.split(r"\n(?:\r?\n)+", str(part.get_payload()))
    return [fields for fields in map(HeaderParser().parsestr, groups) if "Action" in fields]


def _failed_for_good(recipient: Message) -> bool:
    # Also with a status 4.x.x: then a server has given up after days.
    action, status = str(recipient["Action"]), str(recipient["Status"])
    return bool(
        re.match(r"failed\b", action, re.IGNORECASE) and re.match(r"[45]\.\d+\.\d+\b", status)
    )
