"""A few connections carry all emails, and broken ones are replaced."""

import asyncio
from datetime import timedelta

import pytest

from smart_accounts.mail.smtp import (
    RefusedPermanently,
    RefusedTemporarily,
    SmtpSender,
    Unreachable,
)
from tests.support.scripted_smtp_server import (
    DISCONNECT,
    SILENT,
    ProbingSender,
    ScriptedServer,
    example_email,
    open_sender,
    sender_for,
    wait_until,
)

pytestmark = pytest.mark.server


class PausingSender(SmtpSender):
    COMMAND_TIMEOUT = timedelta(seconds=1.5)
    HANGS_AFTER = timedelta(seconds=1)
    PAUSE_AFTER_HANG = timedelta(seconds=3)


async def send_all(sender: SmtpSender, numbers: range) -> None:
    await asyncio.gather(*(sender.send(example_email(number)) for number in numbers))


async def test_forty_emails_use_four_connections(server: ScriptedServer, port: int) -> None:
    server.pause = 0.02
    async with open_sender(port) as sender:
        await send_all(sender, range(20))
        assert len(server.connections) == 4
        await send_all(sender, range(20, 40))
        assert len(server.connections) == 4
    ids = sorted(int(email.split(b"Message-ID: <")[1].split(b"@")[0]) for email in server.emails)
    assert ids == list(range(40))
    assert all(connection.verbs()[-1] == "QUIT" for connection in server.connections)


@pytest.mark.parametrize(
    "replies",
    [
        {"MAIL": DISCONNECT},
        {"MAIL": SILENT},
        {"MAIL": "421 idle for too long"},
        {"MAIL": "452 too many emails on this connection"},
        {"RCPT": DISCONNECT},
        {"RCPT": "421 shutting down"},
    ],
    ids=str,
)
async def test_stale_connection_is_replaced(
    server: ScriptedServer, port: int, replies: dict[str, str]
) -> None:
    kind = ProbingSender if SILENT in replies.values() else SmtpSender
    async with asyncio.timeout(20), open_sender(port, kind) as sender:
        await sender.send(example_email(1))
        server.connections[0].replies |= replies
        await sender.send(example_email(2))
    assert len(server.emails) == len(server.connections) == 2
    await asyncio.wait_for(server.connections[0].closed.wait(), 20)


@pytest.mark.parametrize("last_line", [b"", b"421 idle for too long\r\n"])
@pytest.mark.parametrize("noticed", [True, False])
async def test_all_connections_that_the_server_closed_are_replaced(
    server: ScriptedServer, port: int, last_line: bytes, noticed: bool
) -> None:
    server.pause = 0.02
    async with open_sender(port) as sender:
        await send_all(sender, range(4))
        for connection in server.connections:
            connection.writer.write(last_line)
            connection.writer.close()
        if noticed:
            await asyncio.sleep(0.05)
        await send_all(sender, range(4, 8))
    assert len(server.emails) == len(server.connections) == 8


@pytest.mark.parametrize(
    "replies", [{"DOT": DISCONNECT}, {"DOT": SILENT}, {"DOT": "421 bye"}], ids=str
)
async def test_email_that_may_have_arrived_is_not_sent_again(
    server: ScriptedServer, port: int, replies: dict[str, str]
) -> None:
    async with open_sender(port, sender_for(replies)) as sender:
        await sender.send(example_email(1))
        server.connections[0].replies |= replies
        with pytest.raises(RefusedTemporarily):
            await sender.send(example_email(2))
    assert len(server.emails) == 2
    assert len(server.connections) == 1


async def test_refused_recipient_is_tried_once(server: ScriptedServer, port: int) -> None:
    async with open_sender(port) as sender:
        await sender.send(example_email(1))
        server.connections[0].replies["RCPT"] = "550 no such user"
        with pytest.raises(RefusedPermanently):
            await sender.send(example_email(2, to="nobody@acme.example"))
    assert server.recipients().count("RCPT TO:<nobody@acme.example>") == 1


@pytest.mark.parametrize("stage", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
async def test_cancelled_email_frees_its_connection(
    server: ScriptedServer, port: int, stage: str
) -> None:
    server.replies = {stage: SILENT}

    def has_reached_stage() -> bool:
        if not server.connections:
            return False
        return stage == "GREETING" or stage in server.connections[0].verbs()

    async with open_sender(port, connections=1) as sender:
        stuck = asyncio.create_task(sender.send(example_email(1)))
        waiting = asyncio.create_task(sender.send(example_email(2)))
        await wait_until(has_reached_stage)
        server.replies = {}
        for task in (waiting, stuck):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.wait_for(server.connections[0].closed.wait(), 20)
        await asyncio.wait_for(sender.send(example_email(3)), 20)
    assert len(server.connections) == 2
    assert b"<3@" in server.emails[-1]
    assert len(server.emails) == (2 if stage == "DOT" else 1)


@pytest.mark.parametrize("reply", [DISCONNECT, SILENT, "500 what?"])
async def test_closing_does_not_depend_on_a_reply(
    server: ScriptedServer, port: int, reply: str
) -> None:
    server.replies = {"QUIT": reply}
    server.pause = 0.02
    async with asyncio.timeout(20), open_sender(port, sender_for(server.replies)) as sender:
        await send_all(sender, range(1, 3))
    for connection in server.connections:
        await asyncio.wait_for(connection.closed.wait(), 20)


async def test_one_email_probes_a_silent_server_and_others_fail_immediately(
    server: ScriptedServer, port: int
) -> None:
    server.replies = {"GREETING": SILENT}

    async def fail(sender: SmtpSender) -> None:
        with pytest.raises(Unreachable):
            await sender.send(example_email())

    async with open_sender(port, PausingSender) as sender:
        await asyncio.gather(*(fail(sender) for _ in range(40)))
        assert len(server.connections) == 4, "emails that waited for a slot must not connect"
        await fail(sender)
        assert len(server.connections) == 4, "nor an email that comes soon after"
        await asyncio.sleep(3.2)
        await asyncio.gather(*(fail(sender) for _ in range(40)))
        assert len(server.connections) == 5, "after the pause only one email connects"
        server.replies = {}
        await asyncio.sleep(3.2)
        await sender.send(example_email())
        await send_all(sender, range(2, 6))
    assert len(server.emails) == 5
