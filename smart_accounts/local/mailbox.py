"""The local mailbox: an SMTP server that keeps what it is sent in memory, for people and scripts.

Its JSON has the shape of Mailpit's API, so that what reads one reads the other.
"""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses
from functools import cached_property
from typing import Any

CAPACITY = 1000
MAX_EMAIL_BYTES = 1_000_000
SNIPPET_LENGTH = 250


def _encodable(text: str) -> str:
    """Some charsets decode to lone surrogates, which no answer could carry."""
    return text.encode("utf-8", "replace").decode()


def _decoded(raw: str) -> str:
    """A header's value as a person reads it; one that does not parse as it came."""
    unfolded = re.sub(r"[\r\n]+(?=[ \t])", "", raw)
    try:
        return _encodable(str(make_header(decode_header(unfolded))))
    except (HeaderParseError, LookupError, ValueError):
        return _encodable(unfolded)


def _text(part: Message | None) -> str:
    if part is None:
        return ""
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)  # only a multipart has none
    try:
        text = content.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):  # an unknown charset, or a name that can be none
        text = content.decode("utf-8", "replace")
    return _encodable(text).replace("\r\n", "\n")


@dataclass(frozen=True)
class Mail:
    """One email as it arrived. Nothing in it is trusted: any bytes make an email."""

    id: str
    created: datetime
    recipients: tuple[str, ...]
    """From the envelope: who gets it, whatever its headers say."""
    raw: bytes

    @cached_property
    def _message(self) -> Message:
        return message_from_bytes(self.raw)

    def _part(self, content_type: str) -> Message | None:
        return next(
            (
                part
                for part in self._message.walk()
                if part.get_content_type() == content_type and not part.is_multipart()
            ),
            None,
        )

    def _addresses(self, header: str) -> list[dict[str, str]]:
        values = [str(value) for value in self._message.get_all(header, [])]
        return [
            {"Name": _decoded(name), "Address": address} for name, address in getaddresses(values)
        ]

    def header(self, name: str) -> str:
        return _decoded(str(self._message.get(name, "")))

    @property
    def headers(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in self._message.items():
            found.setdefault(name, []).append(_decoded(str(value)))
        return found

    @property
    def text(self) -> str:
        return _text(self._part("text/plain"))

    @property
    def html(self) -> str:
        return _text(self._part("text/html"))

    @property
    def summary(self) -> dict[str, Any]:
        to = self._addresses("To")
        shown = {each["Address"] for each in to}
        hidden = [address for address in self.recipients if address not in shown]
        return {
            "ID": self.id,
            "MessageID": self.header("Message-ID").strip("<> "),
            "From": next(iter(self._addresses("From")), {"Name": "", "Address": ""}),
            "To": to,
            "Bcc": [{"Name": "", "Address": address} for address in hidden],
            "Subject": self.header("Subject"),
            "Created": self.created.isoformat(),
            "Size": len(self.raw),
            "Snippet": " ".join(self.text.split())[:SNIPPET_LENGTH],
        }

    @property
    def details(self) -> dict[str, Any]:
        return self.summary | {
            "Date": self.created.isoformat(),
            "Text": self.text,
            "HTML": self.html,
        }


class Mailbox:
    """The newest emails. Its ``handle_DATA`` is what the SMTP server calls with each one."""

    def __init__(self) -> None:
        self._mails: dict[str, Mail] = {}

    def __len__(self) -> int:
        return len(self._mails)

    def __iter__(self) -> Iterator[Mail]:
        """Newest first."""
        return reversed(self._mails.values())

    def get(self, mail_id: str) -> Mail | None:
        return self._mails.get(mail_id)

    def add(self, raw: bytes, recipients: tuple[str, ...]) -> None:
        mail = Mail(secrets.token_hex(11), datetime.now(UTC), recipients, raw)
        self._mails[mail.id] = mail
        if len(self._mails) > CAPACITY:
            del self._mails[next(iter(self._mails))]

    async def handle_DATA(  # noqa: N802, aiosmtpd looks it up by this name
        self, _server: object, _session: object, envelope: Any
    ) -> str:
        self.add(envelope.content, tuple(envelope.rcpt_tos))
        return "250 2.0.0 kept in the mailbox"
