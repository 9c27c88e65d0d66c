"""A real SMTP server that keeps all emails and can be told to misbehave."""

import asyncio
import email
import email.policy
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from email.message import EmailMessage
from itertools import repeat
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.ports import find_free_port

LinkIn = Callable[[EmailMessage], str]
"""Returns the activation link of an email."""


class MailServer:
    """Keeps the emails that it receives. Each attribute can make it misbehave."""

    def __init__(self) -> None:
        self.port = find_free_port()
        self.emails: list[EmailMessage] = []
        self.arrivals: list[tuple[str, float]] = []
        """Who sent each email (the host name in EHLO), and when it arrived (monotonic clock)."""
        self.refusals: dict[str, str] = {}
        """For each recipient that is refused: the reply to its RCPT, such as ``451 later``."""
        self.refuse_next: Iterator[bool] = repeat(False)
        """For each next RCPT: whether the reply is 451. ``refused`` counts these replies."""
        self.refused = 0
        self.disconnect_next: Iterator[bool] = repeat(False)
        """For each next email: whether the server keeps it and disconnects without a reply."""
        self.unacknowledged: list[EmailMessage] = []
        """The emails that were kept before such a disconnection."""
        self.hold_replies = False
        """While True, emails are kept but get no reply. ``held`` counts them."""
        self.held = 0
        self.attempts: Counter[str] = Counter()
        """The number of RCPT commands for each recipient."""
        self.slow_recipients: set[str] = set()
        """Recipients whose RCPT gets no reply for now. ``slow_attempts`` counts these commands."""
        self.slow_attempts = 0
        self._server: asyncio.Server | None = None
        self._transports: set[Any] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, enable_SMTPUTF8=False, loop=loop), "127.0.0.1", self.port
        )

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            for transport in self._transports:
                transport.abort()
            self._transports.clear()
            self._server = None

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        self._transports.add(server.transport)
        return responses

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.attempts[address] += 1
        if address in self.slow_recipients:
            self.slow_attempts += 1
            while address in self.slow_recipients:
                await asyncio.sleep(0.02)
        if address in self.refusals:
            return self.refusals[address]
        if next(self.refuse_next):
            self.refused += 1
            return "451 not now"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        message["Return-Path"] = envelope.mail_from  # as the last mail server on the way adds it
        self.emails.append(message)
        self.arrivals.append((str(session.host_name), time.monotonic()))
        if next(self.disconnect_next):
            self.unacknowledged.append(message)
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        elif self.hold_replies:
            self.held += 1
            while self.hold_replies:
                await asyncio.sleep(0.02)
        return "250 OK"

    async def wait_until_disconnected(self) -> None:
        """Wait until no client is connected, so that no email of a killed worker comes later."""
        async with asyncio.timeout(40):
            while not all(transport.is_closing() for transport in self._transports):
                await asyncio.sleep(0.02)

    def kinds(self, to: str | None = None) -> list[str]:
        """Return the kinds of all emails, or of the emails to one recipient."""
        return [
            message["X-Smart-Account-Mail"]
            for message in self.emails
            if to is None or message["To"] == to
        ]

    async def wait_for(self, kind: str, to: str | None = None) -> EmailMessage:
        async with asyncio.timeout(40):
            while True:
                for message in self.emails:
                    if message["X-Smart-Account-Mail"] == kind and to in (None, message["To"]):
                        return message
                await asyncio.sleep(0.02)


def _link_in(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body
    found = re.search(r"\S+/activate/\S+", body.get_content())
    assert found
    return found.group()


@pytest.fixture
def link_in() -> LinkIn:
    return _link_in


@pytest.fixture
async def mail_server() -> AsyncIterator[MailServer]:
    server = MailServer()
    await server.start()
    yield server
    await server.stop()
