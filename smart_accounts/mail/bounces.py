"""Bounced emails: the reports that arrive at the return path of each email.

Many mail servers depart from RFC 3464 (the fields) and RFC 6522 (the parts), and some write only
sentences. All of these reports are read. This is safe, because nobody can guess the return path.
"""

import base64
import binascii
import logging
import quopri
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from email.utils import getaddresses

from flufl.bounce import all_failures

from smart_accounts.mail.refusals import Fault, codes_of, fault_of, split_codes
from smart_accounts.mail.smtp import reply_line
from smart_accounts.tokens import return_path

# Limits of what is parsed. The parser's time grows with the square of a header's length, and a
# stranger may send 256 KB of anything.
MAX_HEADER = 1000  # characters of one header with its folded lines, or of one line of text
MAX_HEADERS = 200
MAX_ADDRESS_HEADERS = 10
MAX_RECIPIENTS = 50
MAX_PARTS = 5
MAX_TEXT = 20_000  # characters of a report in sentences
MAX_LINES = 200  # of such a report, because the library tries dozens of patterns on each

_RECIPIENT_HEADERS = ("To", "Delivered-To", "X-Original-To", "Envelope-To")
_STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status")
_FIELDS = ("action", "status", "diagnostic-code", "final-recipient", "original-recipient")
_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64decode,
    "quoted-printable": quopri.decodestring,
}
_STATUS = re.compile(r"\s*([45]\.\d{1,3}\.\d{1,3})(?![\d.])")
_SPECIFIC = re.compile(r"[45]\.(?!0\.0)")
_REPLIES_IN_TEXT = (  # the most specific pattern first
    re.compile(r"(?<!\d)[45]\d\d[ -]#?[45]\.\d{1,3}\.\d{1,3}\b.*"),
    re.compile(r"(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?![\d.]).*"),
    re.compile(r"(?<!\d)5[05]\d[ -][^\d\s].*"),
)

logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)  # for garbage, it logs a traceback


@dataclass(frozen=True)
class BounceReport:
    """A report that one of our emails failed. ``token`` identifies the email.

    ``reply`` is what the mail server said about it, or None if the report could not be read.
    ``recipient_failed`` is True if the address takes no emails, or if a mail server gave up after
    it had tried for days. Otherwise the email was returned because of us.
    """

    token: str
    reply: str | None = None
    recipient_failed: bool = False


class _NotAFailure(Exception):
    """The email may still arrive, or has arrived."""


@dataclass(frozen=True)
class _Failure:
    reply: str
    recipient: str = ""


def read_bounce(raw: bytes, domain: str) -> BounceReport | None:
    """Read what was sent to the return path of one of our emails.

    Returns None if it was sent to another address, if it says that our email may still arrive, or
    if it is the automatic response of a person's mailbox.
    """
    token = None
    try:
        headers, body = _split(raw.replace(b"\r\n", b"\n").decode("ascii", "replace"))
        token = _token(headers, domain)
        if token is None:
            return None
        failure = _failure_in_fields(headers, body) or _failure_in_text(headers, body)
    except _NotAFailure:
        return None
    except Exception:  # noqa: BLE001 - the libraries do not document what garbage raises
        return BounceReport(token) if token else None
    if failure is None:
        return None if _is_automatic_response(headers) else BounceReport(token)
    # Postfix names the command that the reply was to.
    is_about_content = "end of DATA" in failure.reply
    fault = fault_of(failure.reply, failure.recipient, is_about_content=is_about_content)
    gave_up = fault is Fault.TEMPORARY and failure.reply.startswith("4")
    return BounceReport(token, failure.reply, recipient_failed=fault is Fault.RECIPIENT or gave_up)


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


def _is_automatic_response(headers: Message) -> bool:
    return "auto-replied" in str(headers.get("Auto-Submitted", "")).lower()


# ---- the parts ---------------------------------------------------------------------------------


def _parts(headers: Message, body: str) -> Iterator[tuple[Message, str]]:
    """Yield the outermost parts. An email that is not in parts is one part."""
    boundary = headers.get_boundary()
    if headers.get_content_maintype() != "multipart" or not boundary:
        yield headers, body
        return
    # Split here, because the library takes many seconds for an email with deeply nested parts.
    line = rf"(?m)^--{re.escape(boundary)}(?:--)?[ \t]*(?:\n|\Z)"
    for part in re.split(line, body, maxsplit=MAX_PARTS)[1 : MAX_PARTS + 1]:
        yield _split(part)


def _type(headers: Message) -> str:
    """Return the content type without a comment, such as ``(dsn)``."""
    return headers.get_content_type().partition("(")[0].strip()


def _decoded(headers: Message, body: str) -> str:
    """Return the text of a part without its transfer encoding."""
    decode = _DECODERS.get(str(headers.get("Content-Transfer-Encoding", "")).strip().lower())
    if decode is None:
        return body
    try:
        text = decode(body.encode("ascii", "replace"))
    except binascii.Error:
        return body
    return text.replace(b"\r\n", b"\n").decode("ascii", "replace")


# ---- reports in the fields of RFC 3464 ---------------------------------------------------------


def _failure_in_fields(headers: Message, body: str) -> _Failure | None:
    """Return the failure that the fields describe, or None if there are no such fields.

    Raises:
        _NotAFailure: a recipient got the email, or may still get it.
        ValueError: the fields hold no status code.
    """
    parts = list(_parts(headers, body))
    # A gateway that adds a footer puts the whole report into a part of another email.
    wrapped = next((each for each in parts if _type(each[0]) == "multipart/report"), None)
    for part, text in [*parts, *(_parts(*wrapped) if wrapped else ())]:
        # Only the first such part, because the returned email may contain another one.
        if _type(part) in _STATUS_TYPES:
            # A server may forward one email to several people. All of them must have failed.
            failures = [_failure(each) for each in _recipients(_decoded(part, text))]
            return failures[0] if failures else None
    return None


def _recipients(text: str) -> Iterator[dict[str, str]]:
    """Yield the fields about each recipient. Some servers do not indent continued lines."""
    for group in re.split(r"\n[ \t]*\n\s*", text, maxsplit=MAX_RECIPIENTS)[:MAX_RECIPIENTS]:
        fields: dict[str, str] = {}
        name = ""
        for line in group.split("\n", MAX_HEADERS)[:MAX_HEADERS]:
            found = re.match(r"([A-Za-z][A-Za-z-]{2,40})[ \t]*:(.*)", line[:MAX_HEADER])
            if found and not line.startswith((" ", "\t")):
                name = found[1].lower()
                fields.setdefault(name, found[2].strip())
            elif name in _FIELDS and len(fields[name]) < MAX_HEADER:
                fields[name] += f" {line[:MAX_HEADER].strip()}"
        if "action" in fields or "status" in fields:
            yield fields


def _failure(fields: dict[str, str]) -> _Failure:
    action = fields.get("action", "failed").lower()
    status = _STATUS.match(fields.get("status", ""))
    # Without its type, such as "smtp;".
    said = reply_line(re.sub(r"^[\w-]+\s*;", "", fields.get("diagnostic-code", "")))
    if not codes_of(said):
        said = _quoted_reply([said]) or said  # Postfix: "host mx.example said: 550 …"
    # A status 4.x.x fails too. The server gave up after trying for days.
    if not re.match(r"(?:failed|failure|error)\b", action):
        raise _NotAFailure
    if not (status or codes_of(said)):
        raise ValueError("no status code")
    recipient = fields.get("final-recipient") or fields.get("original-recipient", "")
    address = recipient.rpartition(";")[2].strip().strip("<>")
    return _Failure(_with_status(said, status[1] if status else "", fields), address)


def _with_status(said: str, status: str, fields: dict[str, str]) -> str:
    """Return what the server said, with the more specific of the two status codes."""
    if not said:
        return reply_line(fields["status"])
    code, own_status = split_codes(said)
    if own_status or not _SPECIFIC.match(status):
        return said
    return reply_line(" ".join(filter(None, (code, status, said[len(code) :].strip()))))


def _quoted_reply(lines: list[str]) -> str | None:
    """Return the reply of a mail server that a text quotes. The reply begins with its code."""
    for pattern in _REPLIES_IN_TEXT:
        if found := next(filter(None, map(pattern.search, lines)), None):
            return reply_line(found[0])
    return None


# ---- reports in sentences ----------------------------------------------------------------------


def _failure_in_text(headers: Message, body: str) -> _Failure | None:
    """Return the failure that a mail server describes in its own words.

    Raises:
        _NotAFailure: the server will try again.
    """
    part, text = next(_parts(headers, body))
    text = _decoded(part, text[:MAX_TEXT])
    lines = [line[:MAX_HEADER] for line in text.splitlines()[:MAX_LINES]]
    report = Message()
    report["From"] = str(headers.get("From") or "unknown@invalid")  # one detector needs it
    report["Subject"] = str(headers.get("Subject", ""))
    recipients = str(headers.get("X-Failed-Recipients", ""))
    # Without this, the library would find a recipient without an address.
    if any(address for _, address in getaddresses([recipients])):
        report["X-Failed-Recipients"] = recipients
    report.set_payload("\n".join(lines))
    temporary, permanent = all_failures(report)
    if temporary and not permanent:
        raise _NotAFailure
    if not permanent:
        return None
    reply = _quoted_reply(lines) or "The email was returned. The report names no status code."
    return _Failure(reply, min(permanent).decode())
