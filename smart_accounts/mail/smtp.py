"""Send emails over SMTP: a few kept connections, and errors that say what the caller can do."""

import asyncio
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
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

from smart_accounts.mail.refusals import Fault, fault_of
from smart_accounts.settings import SmtpTls
from smart_accounts.text import one_line

MAX_REPLY = 300
_WIRE = SMTP_POLICY.clone(cte_type="7bit")
CLOSING = 421  # the server is about to close the connection


def reply_line(reply: str) -> str:
    """Return a mail server's reply as one printable line of at most 300 characters."""
    return one_line(reply)[:MAX_REPLY]


class MailError(Exception):
    """The email was not sent. ``reply`` is what the mail server said, on one printable line."""

    def __init__(self, reply: str) -> None:
        self.reply = reply_line(reply)
        super().__init__(self.reply)


class Unreachable(MailError):
    """The mail server takes no emails from us at the moment, for any recipient. Try again later."""


class RefusedTemporarily(MailError):
    """The server refused this email for now, or the connection broke.

    Try again later with the same ``Message-ID``, because the server may have the email.
    """


class RefusedPermanently(MailError):
    """The recipient's address takes no emails."""


class SenderMisconfigured(MailError):
    """The mail server does not accept us, for any recipient. An operator must fix the settings."""


class SenderRefused(SenderMisconfigured):
    """The mail server refused this email because of us, and may take other emails.

    Its reasons are rules about our address, our host name, our network or the content.
    """


@dataclass(frozen=True)
class _Envelope:
    sender: str
    recipient: str
    content: bytes

    @classmethod
    def of(cls, message: EmailMessage, return_path: str | None) -> Self:
        """Return the message as it is sent.

        Raises:
            ValueError: the message does not have exactly one sender and one recipient. With
                several recipients, a server could refuse some of them without an error.
        """
        (sender,), (recipient,) = message["From"].addresses, message["To"].addresses
        content = message.as_bytes(policy=_WIRE)
        return cls(return_path or sender.addr_spec, recipient.addr_spec, content)


class _StaleConnection(Exception):
    """A kept connection no longer works. The email has not been sent over it."""


class SmtpSender:
    """Sends emails over a few connections, one email at a time, and keeps them for the next."""

    COMMAND_TIMEOUT = timedelta(seconds=30)
    PROBE_TIMEOUT = timedelta(seconds=5)  # for a kept connection, which is easy to replace
    FINAL_DOT_TIMEOUT = timedelta(minutes=10)  # RFC 5321 §4.5.3.2.6. Less causes duplicate emails.
    HANGS_AFTER = timedelta(seconds=1)  # an attempt to connect that fails later than this hung
    PAUSE_AFTER_HANG = timedelta(seconds=5)

    def __init__(
        self,
        *,
        hostname: str,
        port: int,
        username: str | None,
        password: str | None,
        tls: SmtpTls,
        local_hostname: str | None = None,
        connections: int = 4,
    ) -> None:
        self._options: dict[str, Any] = {
            "hostname": hostname,
            "port": port,
            "username": username or None,
            "password": password,
            "use_tls": tls == SmtpTls.TLS,
            "start_tls": tls == SmtpTls.STARTTLS,  # True fails if the server does not offer it
            "local_hostname": local_hostname,  # for EHLO; None means the name of this machine
        }
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[SMTP] = []
        self._paused_until: float | None = None
        """Set if the last attempt to connect hung; until then nobody tries to connect."""
        self._is_probing = False
        """True while one email tries whether the server is back after a pause."""

    async def send(self, message: EmailMessage, return_path: str | None = None) -> None:
        """Send to the one recipient in ``To``. Returns once the server has taken the email.

        Bounces go to ``return_path``. Without it they go to the sender in ``From``.

        Raises:
            MailError: the subclass says what the caller can do.
        """
        envelope = _Envelope.of(message, return_path)
        async with self._slots:
            try:
                while self._idle:
                    with suppress(_StaleConnection):
                        return await self._send_over(self._idle.pop(), envelope, reused=True)
                await self._send_over(await self._connect(), envelope)
            except (SMTPException, OSError, UnicodeError) as error:
                raise _classify(error, envelope.recipient) from error

    async def aclose(self) -> None:
        """Close the idle connections. Call this only while no email is being sent."""
        while self._idle:
            with suppress(SMTPException), closing(self._idle.pop()) as connection:
                await connection.quit(timeout=self.PROBE_TIMEOUT.total_seconds())

    async def _connect(self) -> SMTP:
        """Open a connection.

        A server that drops packets makes each attempt hang and the next emails wait. After an
        attempt that hung, others fail immediately. After a pause a single email tries again.
        """
        started = time.monotonic()
        is_paused = self._paused_until is not None and started < self._paused_until
        if is_paused or self._is_probing:
            raise Unreachable("The mail server did not respond a moment ago.")
        self._is_probing = self._paused_until is not None
        connection = SMTP(timeout=self.COMMAND_TIMEOUT.total_seconds(), **self._options)
        paused_until = None
        try:
            await connection.connect()
        except (SMTPException, OSError, UnicodeError) as error:
            now, found = time.monotonic(), _classify(error, "")
            if now - started > self.HANGS_AFTER.total_seconds():
                paused_until = now + self.PAUSE_AFTER_HANG.total_seconds()
            if isinstance(found, RefusedTemporarily):
                found = Unreachable(found.reply)  # no recipient was named yet
            raise found from error
        finally:
            self._paused_until = paused_until
            self._is_probing = False
        return connection

    async def _send_over(
        self, connection: SMTP, envelope: _Envelope, *, reused: bool = False
    ) -> None:
        try:
            if reused:
                await self._open_on_reused(connection, envelope)
            else:
                await _open_envelope(connection, envelope, self.COMMAND_TIMEOUT)
            # One timeout for both replies to DATA, because the library takes only one.
            timeout = self.FINAL_DOT_TIMEOUT.total_seconds()
            await connection.data(envelope.content, timeout=timeout)
        except BaseException:
            # Also when cancelled. A half-sent email would mix with the next one.
            connection.close()
            raise
        self._idle.append(connection)

    async def _open_on_reused(self, connection: SMTP, envelope: _Envelope) -> None:
        """Open the envelope on a connection that the server may have closed in the meantime.

        Raises:
            _StaleConnection: the connection is closed, or takes no more emails. Only addresses
                have been sent over it.
        """
        try:
            # The last email on it was taken, so MAIL needs no RSET before it.
            await _open_envelope(connection, envelope, self.PROBE_TIMEOUT)
        except SMTPException as error:
            if isinstance(error, SMTPRecipientRefused) and error.code != CLOSING:
                raise
            raise _StaleConnection from error


async def _open_envelope(connection: SMTP, envelope: _Envelope, timeout: timedelta) -> None:  # noqa: ASYNC109 - of the first reply
    await connection.mail(envelope.sender, timeout=timeout.total_seconds())
    await connection.rcpt(envelope.recipient)


def _classify(error: Exception, recipient: str) -> MailError:
    """Return the error by what the caller can do about it."""
    if isinstance(error, SMTPResponseException):
        return _classify_reply(error, recipient)
    # Disconnect or timeout. While connecting, also no connection or an untrusted certificate, which
    # `_connect` turns into Unreachable.
    if isinstance(error, OSError):
        return RefusedTemporarily(str(error))
    # STARTTLS or AUTH is not offered, or the host name is malformed.
    return SenderMisconfigured(str(error))


def _classify_reply(error: SMTPResponseException, recipient: str) -> MailError:
    reply = f"{error.code} {error.message}"
    if isinstance(error, SMTPConnectResponseError):
        return Unreachable(reply)
    if isinstance(error, SMTPRecipientRefused | SMTPDataError):
        is_about_content = isinstance(error, SMTPDataError)
        return _REFUSALS[fault_of(reply, recipient, is_about_content=is_about_content)](reply)
    if error.code < 500 and isinstance(error, SMTPSenderRefused):
        # Busy servers and full disks refuse MAIL. This has nothing to do with the recipient.
        return Unreachable(reply)
    if error.code < 500:
        return RefusedTemporarily(reply)
    return SenderMisconfigured(reply)  # a reply to EHLO, STARTTLS, AUTH or MAIL


_REFUSALS: dict[Fault, type[MailError]] = {
    Fault.RECIPIENT: RefusedPermanently,
    Fault.TEMPORARY: RefusedTemporarily,
    Fault.SENDER: SenderRefused,
}
