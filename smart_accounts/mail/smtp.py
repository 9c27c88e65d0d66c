"""Sending over SMTP: few reused connections, one recipient an email, errors by what can be done."""

import asyncio
import math
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from typing import Any, Self

from aiosmtplib import (
    SMTP,
    SMTPConnectResponseError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from smart_accounts.settings import SmtpTls

MAX_ANSWER = 300
CLOSING = 421  # the server is about to close the connection
AUTHENTICATION_REQUIRED = 530  # may come in answer to any command (RFC 4954, 6)


class MailError(Exception):
    """The email was not taken; ``answer`` is what the server said, on one printable line."""

    def __init__(self, answer: str) -> None:
        printable = "".join(char if char.isprintable() else " " for char in answer)
        self.answer = " ".join(printable.split())[:MAX_ANSWER]
        super().__init__(self.answer)


class Unreachable(MailError):
    """No mail server takes emails from us for now, whoever the recipient: try again later."""


class RefusedTemporarily(MailError):
    """Try again later, with the same ``Message-ID``: the server may have the email."""


class RefusedPermanently(MailError):
    """The server will not take this email for this recipient."""


class SenderMisconfigured(MailError):
    """The server does not accept us, whoever the recipient: our settings need a person."""


@dataclass(frozen=True)
class _Mail:
    sender: str
    recipient: str
    content: bytes

    @classmethod
    def of(cls, message: EmailMessage, return_path: str | None) -> Self:
        """
        Raises:
            ValueError: the message has not exactly one sender and one recipient. Of several
                recipients some could be refused without an error.
        """
        (sender,), (recipient,) = message["From"].addresses, message["To"].addresses
        content = message.as_bytes(policy=WIRE.clone(cte_type="7bit"))
        return cls(return_path or sender.addr_spec, recipient.addr_spec, content)


class _Stale(Exception):
    """A kept connection is of no more use; the email has not been sent over it."""


class SmtpSender:
    """Sends emails one at a time over each of a few connections, which are kept for the next."""

    COMMAND_TIMEOUT = timedelta(seconds=30)
    PROBE_TIMEOUT = timedelta(seconds=5)  # for a kept connection: it is easily replaced
    FINAL_DOT_TIMEOUT = timedelta(minutes=10)  # RFC 5321, 4.5.3.2.6: less makes doubles
    HUNG = timedelta(seconds=1)  # a try to connect that failed so late kept others waiting
    PAUSE_WHEN_HUNG = timedelta(seconds=5)

    def __init__(
        self,
        *,
        hostname: str,
        port: int,
        username: str | None,
        password: str | None,
        tls: SmtpTls,
        connections: int = 4,
    ) -> None:
        self._options: dict[str, Any] = {
            "hostname": hostname,
            "port": port,
            "username": username or None,
            "password": password,
            "use_tls": tls == SmtpTls.TLS,
            "start_tls": tls == SmtpTls.STARTTLS,  # demanded, not just tried
        }
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[SMTP] = []
        self._away_until = 0.0
        """Until when no one else need try to connect; 0 where the last try did not hang."""

    async def send(self, message: EmailMessage, return_path: str | None = None) -> None:
        """Send to the one recipient in ``To``; returns once the server has taken the email.

        Bounces go to ``return_path``, or else to the sender in ``From``.

        Raises:
            MailError: one of its kinds, which says what can be done.
        """
        mail = _Mail.of(message, return_path)
        async with self._slots:
            try:
                while self._idle:
                    with suppress(_Stale):
                        return await self._send_over(self._idle.pop(), mail, reused=True)
                await self._send_over(await self._connect(), mail)
            except (SMTPException, OSError, UnicodeError) as error:
                raise _what_can_be_done(error) from error

    async def aclose(self) -> None:
        """Say good-bye on the idle connections. Call it when no send is under way."""
        while self._idle:
            with suppress(SMTPException), closing(self._idle.pop()) as connection:
                await connection.quit(timeout=self.PROBE_TIMEOUT.total_seconds())

    async def _connect(self) -> SMTP:
        """A new connection.

        A server that drops packets lets each try hang, and the emails behind it. So after one that
        hung all the others fail at once, until a single try that comes after a pause gets through.
        """
        began = time.monotonic()
        if began < self._away_until:
            raise Unreachable("The mail server did not answer a moment ago.")
        self._away_until = self._away_until and math.inf
        connection = SMTP(timeout=self.COMMAND_TIMEOUT.total_seconds(), **self._options)
        away_until = 0.0
        try:
            await connection.connect()
        except (SMTPException, OSError, UnicodeError) as error:
            now, found = time.monotonic(), _what_can_be_done(error)
            if now - began > self.HUNG.total_seconds():
                away_until = now + self.PAUSE_WHEN_HUNG.total_seconds()
            raise (
                Unreachable(found.answer) if isinstance(found, RefusedTemporarily) else found
            ) from error
        finally:
            self._away_until = away_until
        return connection

    async def _send_over(self, connection: SMTP, mail: _Mail, *, reused: bool = False) -> None:
        try:
            if reused:
                await self._announce_again(connection, mail)
            else:
                await _announce(connection, mail)
            # One time-out for both answers to DATA: the library takes no two.
            await connection.data(mail.content, timeout=self.FINAL_DOT_TIMEOUT.total_seconds())
        except BaseException:
            # Also when cancelled: what this email left half-way would mix with the next one's.
            connection.close()
            raise
        self._idle.append(connection)

    async def _announce_again(self, connection: SMTP, mail: _Mail) -> None:
        """Open the email's envelope on a connection that the server may have given up meanwhile.

        Raises:
            _Stale: it has, or takes no more emails on it; nothing but addresses has gone out.
        """
        try:
            await connection.rset(timeout=self.PROBE_TIMEOUT.total_seconds())
            await _announce(connection, mail)
        except SMTPException as error:
            if isinstance(error, SMTPRecipientRefused) and error.code != CLOSING:
                raise
            raise _Stale from error


async def _announce(connection: SMTP, mail: _Mail) -> None:
    await connection.mail(mail.sender)
    await connection.rcpt(mail.recipient)


def _what_can_be_done(error: Exception) -> MailError:
    if isinstance(error, SMTPResponseException):
        answer = f"{error.code} {error.message}"
        if isinstance(error, SMTPConnectResponseError):
            return Unreachable(answer)
        if error.code < 500:
            # Full disks and busy servers say so at MAIL: that is about us, not the recipient.
            return (Unreachable if isinstance(error, SMTPSenderRefused) else RefusedTemporarily)(
                answer
            )
        blames_mail = isinstance(error, SMTPRecipientRefused | SMTPDataError)
        if blames_mail and error.code != AUTHENTICATION_REQUIRED:
            return RefusedPermanently(answer)
        return SenderMisconfigured(answer)  # to EHLO, STARTTLS, AUTH or MAIL
    if isinstance(error, OSError):  # no connection, no trust in its certificate, cut, timed out
        return RefusedTemporarily(str(error))
    return SenderMisconfigured(str(error))  # STARTTLS or AUTH not offered, host name malformed
