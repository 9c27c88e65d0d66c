"""An SMTP server whose replies a test sets, and a sender to talk to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.settings import SmtpTls

DISCONNECT = "disconnect"
SILENT = "send no reply"
REPLIES = {
    "GREETING": "220 mail.example",
    "EHLO": "250-mail.example\r\n250 AUTH PLAIN",
    "AUTH": "235 welcome",
    "DATA": "354 go on",
    "QUIT": "221 bye",
}


class Connection:
    def __init__(self, writer: asyncio.StreamWriter, replies: dict[str, str]) -> None:
        self.replies = REPLIES | replies
        self.commands: list[str] = []
        self.closed = asyncio.Event()
        self.writer = writer

    def verbs(self) -> list[str]:
        return [command.split(" ")[0] for command in self.commands]

    def reply(self, verb: str) -> str:
        reply = self.replies.get(verb, "250 OK")
        if reply == DISCONNECT:
            self.writer.transport.abort()
        elif reply != SILENT:
            self.writer.write(reply.encode("latin-1") + b"\r\n")
        return reply


class ScriptedServer:
    """Sends the reply that is set for each command, and keeps all it received.

    ``GREETING`` stands for a new connection, ``DOT`` for the end of an email.
    """

    def __init__(self) -> None:
        self.replies: dict[str, str] = {}
        """For the next connections. Each takes its own copy."""
        self.connections: list[Connection] = []
        self.emails: list[bytes] = []
        self.pause = 0.0
        """Seconds before the reply to the end of an email."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer, self.replies)
        self.connections.append(connection)
        try:
            connection.reply("GREETING")
            while line := await reader.readline():
                await self._handle(connection, line.decode("latin-1").rstrip(), reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # one of the two sides disconnected
        finally:
            writer.close()
            connection.closed.set()

    async def _handle(
        self, connection: Connection, command: str, reader: asyncio.StreamReader
    ) -> None:
        connection.commands.append(command)
        if connection.reply(connection.verbs()[-1]).startswith("354"):
            self.emails.append(await reader.readuntil(b"\r\n.\r\n"))
            connection.commands.append("DOT")
            await asyncio.sleep(self.pause)
            connection.reply("DOT")

    def recipients(self) -> list[str]:
        commands = [command for each in self.connections for command in each.commands]
        return [command for command in commands if command.startswith("RCPT")]


class ImpatientSender(SmtpSender):
    """Gives up soon, so that tests with a silent server do not take minutes."""

    COMMAND_TIMEOUT = timedelta(seconds=1.5)
    FINAL_DOT_TIMEOUT = timedelta(seconds=5)
    HANGS_AFTER = timedelta(seconds=30)  # never; the pause has a test of its own


class ProbingSender(SmtpSender):
    PROBE_TIMEOUT = timedelta(seconds=1.5)


def sender_for(replies: dict[str, str]) -> type[SmtpSender]:
    """Return an impatient sender only for silent servers.

    On a busy machine, an impatient sender gives up on a server that is only slow.
    """
    if replies.get("QUIT") == SILENT:
        return ProbingSender
    return ImpatientSender if SILENT in replies.values() else SmtpSender


@asynccontextmanager
async def open_sender(
    port: int, kind: type[SmtpSender] = SmtpSender, **options: Any
) -> AsyncIterator[SmtpSender]:
    defaults = {"hostname": "127.0.0.1", "username": None, "password": None, "tls": SmtpTls.NONE}
    sender = kind(port=port, **(defaults | options))
    yield sender
    await sender.aclose()


def example_email(number: int = 1, to: str = "ada@acme.example") -> EmailMessage:
    message = EmailMessage()
    message["From"] = Address("Smart Accounts", addr_spec="no-reply@accounts.example")
    message["To"] = Address(addr_spec=to)
    message["Message-ID"] = f"<{number}@accounts.example>"
    message.set_content("Grüße\n.a line that begins with a dot\n.\nend\n", cte="8bit")
    return message


async def wait_until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)
