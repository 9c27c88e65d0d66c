"""Bounced emails: the return path that each email gets, and the reports that arrive there."""

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from email.utils import getaddresses

from smart_accounts.mail.smtp import reply_line

# Limits of what is parsed. The parser's time grows with the square of a header's length, and a
# stranger may send 256 KB of anything.
MAX_HEADER = 1000  # characters of one header, with its folded lines
MAX_HEADERS = 200
MAX_ADDRESS_HEADERS = 10
MAX_RECIPIENTS = 50

_RECIPIENT_HEADERS = ("To", "Delivered-To", "X-Original-To", "Envelope-To")


@dataclass(frozen=True)
class BounceReport:
    """``token`` identifies the email. ``answer`` is what the mail server said about it."""

    token: str
    answer: str


def return_path(token: str, domain: str) -> str:
    return f"bounce-{token}@{domain}"


def read_bounce(raw: bytes, domain: str) -> BounceReport | None:
    """Return the report if it says that one of our emails permanently failed.

    Returns None for everything else that is sent to a return path, such as garbage.
    Sources: RFC 3464 for the fields, RFC 6522 for the parts.
    """
    try:
        headers, body = _split(raw.replace(b"\r\n", b"\n").decode("ascii", "replace"))
        return _read(headers, body, domain)
    except Exception:  # noqa: BLE001 - the library does not document what garbage raises
        return None


def _read(report: Message, body: str, domain: str) -> BounceReport | None:
    token, recipients = _token(report, domain), _recipients(report, body)
    # A server may forward one email to several people. If one of them got it, it did not bounce.
    if token is None or not recipients or not all(map(_has_failed, recipients)):
        return None
    code, status = str(recipients[0].get("Diagnostic-Code", "")), str(recipients[0]["Status"])
    reply = re.sub(r"^\s*[\w-]+\s*;", "", code)  # without its type, such as "smtp;"
    return BounceReport(token, reply_line(reply) or reply_line(status))


def _split(text: str) -> tuple[Message, str]:
    """Return the headers and the body. Headers that are too long, or too many, are left out."""
    head, _, body = text.partition("\n\n")
    headers = re.split(r"\n(?![ \t])", head, maxsplit=MAX_HEADERS)[:MAX_HEADERS]
    kept = [header for header in headers if len(header) <= MAX_HEADER]
    return HeaderParser().parsestr("\n".join(kept)), body


def _token(report: Message, domain: str) -> str | None:
    """Return the token in the one return path that the report was sent to."""
    pattern = re.compile(return_path("([a-z2-7]{32})", re.escape(domain.lower())))
    headers = [str(value) for name in _RECIPIENT_HEADERS for value in report.get_all(name, [])]
    # One by one, because newer versions of the library return nothing if one header is malformed.
    addresses = [
        address for header in headers[:MAX_ADDRESS_HEADERS] for _, address in getaddresses([header])
    ]
    tokens = {match[1] for address in addresses if (match := pattern.fullmatch(address.lower()))}
    return tokens.pop() if len(tokens) == 1 else None


def _recipients(report: Message, body: str) -> list[Message]:
    """Return the fields about each recipient, which are in the report's second part."""
    kind, boundary = str(report.get_param("report-type")).lower(), report.get_boundary()
    if (report.get_content_type(), kind) != ("multipart/report", "delivery-status") or not boundary:
        return []
    # Split here, because the library takes many seconds for an email with deeply nested parts.
    line = rf"(?m)^--{re.escape(boundary)}(?:--)?[ \t]*\n"
    parts = re.split(line, body, maxsplit=3)
    part, fields = _split("".join(parts[2:3]))
    if part.get_content_type() != "message/delivery-status":
        return []
    groups = re.split(r"\n\n+", fields, maxsplit=MAX_RECIPIENTS)[:MAX_RECIPIENTS]
    recipients = [_split(group)[0] for group in groups]
    return [recipient for recipient in recipients if "Action" in recipient]


def _has_failed(recipient: Message) -> bool:
    # A status 4.x.x fails too. The server gave up after trying for days.
    action, status = str(recipient["Action"]), str(recipient["Status"])
    return bool(
        re.match(r"failed\b", action, re.IGNORECASE) and re.match(r"[45]\.\d+\.\d+\b", status)
    )
