"""The local mailbox. It keeps the emails of the local stack in memory, for people and scripts.

Its JSON has the shape of Mailpit's API, so a program that reads one can also read the other.
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


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, because UTF-8 cannot encode them. Some charsets decode to them."""
    return text.encode("utf-8", "replace").decode()


def _decode_header(raw: str) -> str:
    """Return the value of a header as a person reads it, or unchanged if it cannot be decoded."""
    unfolded = re.sub(r"[\r\n]+(?=[ \t])", "", raw)
    try:
        return _without_surrogates(str(make_header(decode_header(unfolded))))
    except (HeaderParseError, LookupError, ValueError):
        return _without_surrogates(unfolded)


def _decode_text(part: Message | None) -> str:
    if part is None:
        return ""
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)  # only a multipart has no payload
    try:
        text = content.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):  # the charset is unknown or is not a valid name
        text = content.decode("utf-8", "replace")
    return _without_surrogates(text).replace("\r\n", "\n")


@dataclass(frozen=True)
class ReceivedEmail:
    """One email as it arrived. It is not trusted, and it may consist of any bytes."""

    id: str
    received_at: datetime
    recipients: tuple[str, ...]
    """The recipients of the envelope. The headers may name others."""
    raw: bytes

    @cached_property
    def _message(self) -> Message:
        return message_from_bytes(self.raw)

    def _part(self, content_type: str) -> Message | None:
        for part in self._message.walk():
            if part.get_content_type() == content_type and not part.is_multipart():
                return part
        return None

    def _addresses(self, header: str) -> list[dict[str, str]]:
        values = [str(value) for value in self._message.get_all(header, [])]
        return [
            {"Name": _decode_header(name), "Address": address}
            for name, address in getaddresses(values)
        ]

    def header(self, name: str) -> str:
        return _decode_header(str(self._message.get(name, "")))

    @property
    def headers(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, value in self._message.items():
            found.setdefault(name, []).append(_decode_header(str(value)))
        return found

    @property
    def text(self) -> str:
        return _decode_text(self._part("text/plain"))

    @property
    def html(self) -> str:
        return _decode_text(self._part("text/html"))

    @property
    def summary(self) -> dict[str, Any]:
        to = self._addresses("To")
        visible = {each["Address"] for each in to}
        hidden = [address for address in self.recipients if address not in visible]
        return {
            "ID": self.id,
            "MessageID": self.header("Message-ID").strip("<> "),
            "From": next(iter(self._addresses("From")), {"Name": "", "Address": ""}),
            "To": to,
            "Bcc": [{"Name": "", "Address": address} for address in hidden],
            "Subject": self.header("Subject"),
            "Created": self.received_at.isoformat(),
            "Size": len(self.raw),
            "Snippet": " ".join(self.text.split())[:SNIPPET_LENGTH],
        }

    @property
    def details(self) -> dict[str, Any]:
        return self.summary | {
            "Date": self.received_at.isoformat(),
            "Text": self.text,
            "HTML": self.html,
        }


class Mailbox:
    """The newest emails. The SMTP server calls ``handle_DATA`` with each email it receives."""

    def __init__(self) -> None:
        self._emails: dict[str, ReceivedEmail] = {}

    def __len__(self) -> int:
        return len(self._emails)

    def __iter__(self) -> Iterator[ReceivedEmail]:
        """Iterate over the emails, newest first."""
        return reversed(self._emails.values())

    def get(self, email_id: str) -> ReceivedEmail | None:
        return self._emails.get(email_id)

    def add(self, raw: bytes, recipients: tuple[str, ...]) -> None:
        email = ReceivedEmail(secrets.token_hex(11), datetime.now(UTC), recipients, raw)
        self._emails[email.id] = email
        if len(self._emails) > CAPACITY:
            del self._emails[next(iter(self._emails))]

    async def handle_DATA(  # noqa: N802, aiosmtpd calls it by this name
        self, _server: object, _session: object, envelope: Any
    ) -> str:
        self.add(envelope.content, tuple(envelope.rcpt_tos))
        return "250 2.0.0 kept in the mailbox"
