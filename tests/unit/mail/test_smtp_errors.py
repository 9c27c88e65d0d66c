"""Each reply of a mail server becomes an error that says what the caller can do."""

import asyncio
from datetime import timedelta
from email.headerregistry import Address
from typing import Any

import pytest

from smart_accounts.mail.smtp import (
    MailError,
    RefusedPermanently,
    RefusedTemporarily,
    SenderMisconfigured,
    SenderRefused,
    SmtpSender,
    Unreachable,
)
from smart_accounts.settings import SmtpTls
from tests.support.ports import FreePort
from tests.support.scripted_smtp_server import (
    DISCONNECT,
    SILENT,
    ImpatientSender,
    ScriptedServer,
    example_email,
    open_sender,
    sender_for,
)

pytestmark = pytest.mark.server

ERRORS = [
    ({"GREETING": "421 busy"}, Unreachable, "421 busy"),
    ({"GREETING": "554 no service here"}, Unreachable, "554 no service here"),
    ({"GREETING": DISCONNECT}, Unreachable, "Error connecting"),
    ({"GREETING": SILENT}, Unreachable, "Timed out"),
    ({"GREETING": "SSH-2.0-OpenSSH"}, Unreachable, "Malformed"),
    ({"EHLO": "550 not you", "HELO": "550 not you"}, SenderMisconfigured, "550 not you"),
    ({"EHLO": "421 busy"}, Unreachable, "421 busy"),
    ({"EHLO": SILENT}, Unreachable, "Timed out"),
    ({"AUTH": "535 5.7.8 wrong"}, SenderMisconfigured, "535 5.7.8 wrong"),
    ({"AUTH": "454 4.7.0 later"}, Unreachable, "454 4.7.0 later"),
    ({"EHLO": "250 mail.example"}, SenderMisconfigured, "AUTH"),
    ({"MAIL": "451 later"}, Unreachable, "451 later"),
    ({"MAIL": "550 not that sender"}, SenderMisconfigured, "550 not that sender"),
    ({"MAIL": "530 sign in first"}, SenderMisconfigured, "530 sign in first"),
    ({"RCPT": "451 later"}, RefusedTemporarily, "451 later"),
    ({"RCPT": "550 no such user"}, RefusedPermanently, "550 no such user"),
    ({"RCPT": "550 5.7.1 relay access denied"}, SenderRefused, "550 5.7.1 relay access denied"),
    ({"RCPT": DISCONNECT}, RefusedTemporarily, ""),
    ({"RCPT": SILENT}, RefusedTemporarily, "Timed out"),
    ({"DATA": "451 later"}, RefusedTemporarily, "451 later"),
    ({"DATA": "550 no"}, SenderRefused, "550 no"),
    ({"DOT": "452 disk full"}, RefusedTemporarily, "452 disk full"),
    ({"DOT": "550 5.1.1 unknown"}, RefusedPermanently, "550 5.1.1 unknown"),
    ({"DOT": "552 5.3.4 too big"}, SenderRefused, "552 5.3.4 too big"),
    ({"DOT": "421 closing"}, RefusedTemporarily, "421 closing"),
    ({"DOT": "what?"}, RefusedTemporarily, "Malformed"),
    ({"DOT": DISCONNECT}, RefusedTemporarily, ""),
    ({"DOT": SILENT}, RefusedTemporarily, "Timed out"),
]


@pytest.mark.parametrize(("replies", "error", "reply"), ERRORS, ids=str)
async def test_each_reply_has_its_error(
    server: ScriptedServer,
    port: int,
    replies: dict[str, str],
    error: type[MailError],
    reply: str,
) -> None:
    server.replies = replies
    async with open_sender(port, sender_for(replies), username="us", password="secret") as sender:
        with pytest.raises(MailError) as caught:
            await sender.send(example_email())
        assert type(caught.value) is error
        assert reply in caught.value.reply
        assert len(server.emails) == ("DOT" in replies)

        # The connection is closed, and its slot is free for the next email.
        await asyncio.wait_for(server.connections[0].closed.wait(), 20)
        server.replies = {}
        await sender.send(example_email(2))
    assert len(server.connections) == 2


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"hostname": "no-such-host.invalid"}, Unreachable),
        ({"hostname": "mail..example"}, SenderMisconfigured),
        ({"tls": SmtpTls.TLS}, Unreachable),
        ({"tls": SmtpTls.STARTTLS}, SenderMisconfigured),
    ],
    ids=str,
)
async def test_no_way_to_reach_the_server(
    server: ScriptedServer, port: int, options: dict[str, Any], error: type[MailError]
) -> None:
    async with open_sender(port, **options) as sender:
        with pytest.raises(MailError) as caught:
            await sender.send(example_email())
    assert type(caught.value) is error
    assert not server.recipients()


async def test_no_server_listens(free_port: FreePort) -> None:
    async with open_sender(free_port()) as sender:
        with pytest.raises(Unreachable, match="Error connecting"):
            await sender.send(example_email())


async def test_reply_is_one_printable_line(server: ScriptedServer, port: int) -> None:
    server.replies = {"RCPT": "550-no\x1b[31m \x00\xff\r\n550 " + "x" * 600}
    async with open_sender(port) as sender:
        with pytest.raises(RefusedPermanently) as caught:
            await sender.send(example_email())
    assert caught.value.reply.startswith("550 no [31m xxx")
    assert caught.value.reply.isprintable()
    assert len(caught.value.reply) == 300


async def test_server_may_take_long_to_accept_an_email(server: ScriptedServer, port: int) -> None:
    server.pause = 2  # longer than the timeout of a command
    async with open_sender(port, ImpatientSender) as sender:
        await sender.send(example_email())
    assert timedelta(seconds=30) == SmtpSender.COMMAND_TIMEOUT
    assert timedelta(minutes=10) == SmtpSender.FINAL_DOT_TIMEOUT


async def test_own_host_name_is_a_setting(server: ScriptedServer, port: int) -> None:
    async with open_sender(port, local_hostname="mail.partner.example") as sender:
        await sender.send(example_email())
    assert server.connections[0].commands[0] == "EHLO mail.partner.example"


@pytest.mark.parametrize("username", [None, ""])
async def test_no_authentication_without_a_username(
    server: ScriptedServer, port: int, username: str | None
) -> None:
    async with open_sender(port, username=username) as sender:
        await sender.send(example_email())
    assert server.connections[0].verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "DOT", "QUIT"]


async def test_email_has_one_recipient(server: ScriptedServer, port: int) -> None:
    async with open_sender(port) as sender:
        await sender.send(example_email())
        two_recipients = example_email()
        del two_recipients["To"]
        two_recipients["To"] = [Address(addr_spec=f"{who}@acme.example") for who in ("ada", "evil")]
        with pytest.raises(ValueError, match="too many"):
            await sender.send(two_recipients)
    assert server.recipients() == ["RCPT TO:<ada@acme.example>"]
    assert len(server.emails) == 1
