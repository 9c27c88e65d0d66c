"""Sending over real connections: to aiosmtpd, and to a server that misbehaves as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from smart_accounts.mail.smtp import (
    MailError,
    RefusedPermanently,
    RefusedTemporarily,
    SenderMisconfigured,
    SmtpSender,
    Unreachable,
)
from smart_accounts.settings import SmtpTls

pytestmark = pytest.mark.server

CUT = "cut the connection"
SILENT = "say nothing"
ANSWERS = {
    "GREETING": "220 email.example",
    "EHLO": "250-mail.example\r\n250 AUTH PLAIN",
    "AUTH": "235 welcome",
    "DATA": "354 go on",
    "QUIT": "221 bye",
}


def mail(number: int = 1, to: str = "ada@acme.example") -> EmailMessage:
    message = EmailMessage()
    message["From"] = Address("Smart Accounts", addr_spec="no-reply@accounts.example")
    message["To"] = Address(addr_spec=to)
    message["Message-ID"] = f"<{number}@accounts.example>"
    message.set_content("Grüße\n.a line that begins with a dot\n.\nend\n", cte="8bit")
    return message


class Hasty(SmtpSender):
    """Gives up soon, so that tests of silent servers needn't take minutes."""

    COMMAND_TIMEOUT = timedelta(seconds=1.5)
    FINAL_DOT_TIMEOUT = timedelta(seconds=5)
    HUNG = timedelta(seconds=30)  # what it does then is ``Wary``'s


class Probing(SmtpSender):
    PROBE_TIMEOUT = timedelta(seconds=1.5)


def patience(answers: dict[str, str]) -> type[SmtpSender]:
    """On a busy machine a hasty sender gives up on a server that does answer."""
    if SILENT in (answers.get("RSET"), answers.get("QUIT")):
        return Probing
    return Hasty if SILENT in answers.values() else SmtpSender


class Connection:
    def __init__(self, writer: asyncio.StreamWriter, answers: dict[str, str]) -> None:
        self.answers = ANSWERS | answers
        self.commands: list[str] = []
        self.closed = asyncio.Event()
        self.writer = writer

    def verbs(self) -> list[str]:
        return [command.split(" ")[0] for command in self.commands]

    def answer(self, verb: str) -> str:
        answer = self.answers.get(verb, "250 OK")
        if answer == CUT:
            self.writer.transport.abort()
        elif answer != SILENT:
            self.writer.write(answer.encode("latin-1") + b"\r\n")
        return answer


class Server:
    """Answers each verb as told, of the email's final dot as ``DOT``; keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        """For the connections to come; each then has a copy of its own."""
        self.connections: list[Connection] = []
        self.mails: list[bytes] = []
        self.pause = 0.0
        """Seconds before the answer to a final dot."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(writer, self.answers)
        self.connections.append(connection)
        try:
            connection.answer("GREETING")
            while line := await reader.readline():
                await self._obey(connection, line.decode("latin-1").rstrip(), reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the sender hung up, or we did
        finally:
            writer.close()
            connection.closed.set()

    async def _obey(
        self, connection: Connection, command: str, reader: asyncio.StreamReader
    ) -> None:
        connection.commands.append(command)
        if connection.answer(connection.verbs()[-1]).startswith("354"):
            self.mails.append(await reader.readuntil(b"\r\n.\r\n"))
            connection.commands.append("DOT")
            await asyncio.sleep(self.pause)
            connection.answer("DOT")

    def recipients(self) -> list[str]:
        commands = [command for each in self.connections for command in each.commands]
        return [command for command in commands if command.startswith("RCPT")]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def port(server: Server) -> AsyncIterator[int]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    for connection in server.connections:
        connection.writer.transport.abort()
        await connection.closed.wait()


@asynccontextmanager
async def sending(
    port: int, kind: type[SmtpSender] = SmtpSender, **options: Any
) -> AsyncIterator[SmtpSender]:
    defaults = {"hostname": "127.0.0.1", "username": None, "password": None, "tls": SmtpTls.NONE}
    sender = kind(port=port, **(defaults | options))
    yield sender
    await sender.aclose()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


# The table of errors.

REFUSALS = [
    ({"GREETING": "421 busy"}, Unreachable, "421 busy"),
    ({"GREETING": "554 no service here"}, Unreachable, "554 no service here"),
    ({"GREETING": CUT}, Unreachable, "Error connecting"),
    ({"GREETING": SILENT}, Unreachable, "Timed out"),
    ({"GREETING": "SSH-2.0-OpenSSH"}, Unreachable, "Malformed"),
    ({"EHLO": "550 not you", "HELO": "550 not you"}, SenderMisconfigured, "550 not you"),
    ({"EHLO": "421 busy"}, Unreachable, "421 busy"),
    ({"EHLO": SILENT}, Unreachable, "Timed out"),
    ({"AUTH": "535 5.7.8 wrong"}, SenderMisconfigured, "535 5.7.8 wrong"),
    ({"AUTH": "454 4.7.0 later"}, Unreachable, "454 4.7.0 later"),
    ({"EHLO": "250 email.example"}, SenderMisconfigured, "AUTH"),
    ({"MAIL": "451 later"}, Unreachable, "451 later"),
    ({"MAIL": "550 not that sender"}, SenderMisconfigured, "550 not that sender"),
    ({"MAIL": "530 sign in first"}, SenderMisconfigured, "530 sign in first"),
    ({"RCPT": "451 later"}, RefusedTemporarily, "451 later"),
    ({"RCPT": "550 no such user"}, RefusedPermanently, "550 no such user"),
    ({"RCPT": "530 sign in first"}, SenderMisconfigured, "530 sign in first"),
    ({"RCPT": CUT}, RefusedTemporarily, ""),
    ({"RCPT": SILENT}, RefusedTemporarily, "Timed out"),
    ({"DATA": "451 later"}, RefusedTemporarily, "451 later"),
    ({"DATA": "554 no"}, RefusedPermanently, "554 no"),
    ({"DOT": "452 disk full"}, RefusedTemporarily, "452 disk full"),
    ({"DOT": "552 too big"}, RefusedPermanently, "552 too big"),
    ({"DOT": "421 closing"}, RefusedTemporarily, "421 closing"),
    ({"DOT": "what?"}, RefusedTemporarily, "Malformed"),
    ({"DOT": CUT}, RefusedTemporarily, ""),
    ({"DOT": SILENT}, RefusedTemporarily, "Timed out"),
]


@pytest.mark.parametrize(("answers", "error", "answer"), REFUSALS, ids=str)
async def test_each_refusal_says_what_can_be_done(
    server: Server, port: int, answers: dict[str, str], error: type[MailError], answer: str
) -> None:
    server.answers = answers
    async with sending(port, patience(answers), username="us", password="secret") as sender:
        with pytest.raises(MailError) as caught:
            await sender.send(mail())
        assert type(caught.value) is error
        assert answer in caught.value.answer
        assert len(server.mails) == ("DOT" in answers)

        # Nothing of it stays: neither its connection nor its place among the few.
        await asyncio.wait_for(server.connections[0].closed.wait(), 20)
        server.answers = {}
        await sender.send(mail(2))
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
async def test_no_way_to_the_server(
    server: Server, port: int, options: dict[str, Any], error: type[MailError]
) -> None:
    async with sending(port, **options) as sender:
        with pytest.raises(MailError) as caught:
            await sender.send(mail())
    assert type(caught.value) is error
    assert not server.recipients()


async def test_nobody_listens(free_port: Callable[[], int]) -> None:
    async with sending(free_port()) as sender:
        with pytest.raises(Unreachable, match="Error connecting"):
            await sender.send(mail())


async def test_the_answer_is_one_printable_line(server: Server, port: int) -> None:
    server.answers = {"RCPT": "550-no\x1b[31m \x00\xff\r\n550 " + "x" * 600}
    async with sending(port) as sender:
        with pytest.raises(RefusedPermanently) as caught:
            await sender.send(mail())
    assert caught.value.answer.startswith("550 no [31m xxx")
    assert caught.value.answer.isprintable()
    assert len(caught.value.answer) == 300


async def test_a_server_may_think_long_about_an_email(server: Server, port: int) -> None:
    server.pause = 2  # longer than a command may take
    async with sending(port, Hasty) as sender:
        await sender.send(mail())
    assert timedelta(seconds=30) == SmtpSender.COMMAND_TIMEOUT
    assert timedelta(minutes=10) == SmtpSender.FINAL_DOT_TIMEOUT


@pytest.mark.parametrize("username", [None, ""])
async def test_without_a_user_name_no_sign_in(
    server: Server, port: int, username: str | None
) -> None:
    async with sending(port, username=username) as sender:
        await sender.send(mail())
    assert server.connections[0].verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "DOT", "QUIT"]


# One recipient an email.


async def test_one_recipient_is_all_the_server_hears(server: Server, port: int) -> None:
    async with sending(port) as sender:
        await sender.send(mail())
        several = mail()
        del several["To"]
        several["To"] = [Address(addr_spec=f"{who}@acme.example") for who in ("ada", "evil")]
        with pytest.raises(ValueError, match="too many"):
            await sender.send(several)
    assert server.recipients() == ["RCPT TO:<ada@acme.example>"]
    assert len(server.mails) == 1


# A few connections, used again.


async def test_twenty_emails_go_over_four_connections_and_so_do_the_next(
    server: Server, port: int
) -> None:
    server.pause = 0.02
    async with sending(port) as sender:
        await asyncio.gather(*(sender.send(mail(number)) for number in range(20)))
        assert len(server.connections) == 4
        await asyncio.gather(*(sender.send(mail(number)) for number in range(20, 40)))
        assert len(server.connections) == 4
    ids = sorted(int(each.split(b"Message-ID: <")[1].split(b"@")[0]) for each in server.mails)
    assert ids == list(range(40))
    assert all(each.verbs()[-1] == "QUIT" for each in server.connections)


@pytest.mark.parametrize(
    "answers",
    [
        {"RSET": CUT},
        {"RSET": SILENT},
        {"RSET": "421 idle for too long"},
        {"MAIL": CUT},
        {"MAIL": "421 idle for too long"},
        {"MAIL": "452 too many emails on this connection"},
        {"RCPT": CUT},
        {"RCPT": "421 shutting down"},
    ],
    ids=str,
)
async def test_a_kept_connection_that_is_of_no_more_use_is_replaced(
    server: Server, port: int, answers: dict[str, str]
) -> None:
    async with asyncio.timeout(20), sending(port, patience(answers)) as sender:
        await sender.send(mail(1))
        server.connections[0].answers |= answers
        await sender.send(mail(2))
    assert len(server.mails) == len(server.connections) == 2
    await asyncio.wait_for(server.connections[0].closed.wait(), 20)


@pytest.mark.parametrize("farewell", [b"", b"421 idle for too long\r\n"])
@pytest.mark.parametrize("noticed", [True, False])
async def test_all_kept_connections_closed_meanwhile_are_replaced(
    server: Server, port: int, farewell: bytes, noticed: bool
) -> None:
    server.pause = 0.02
    async with sending(port) as sender:
        await asyncio.gather(*(sender.send(mail(number)) for number in range(4)))
        for connection in server.connections:
            connection.writer.write(farewell)
            connection.writer.close()
        if noticed:
            await asyncio.sleep(0.05)
        await asyncio.gather(*(sender.send(mail(number)) for number in range(4, 8)))
    assert len(server.mails) == len(server.connections) == 8


@pytest.mark.parametrize("answers", [{"DOT": CUT}, {"DOT": SILENT}, {"DOT": "421 bye"}], ids=str)
async def test_an_email_that_may_have_arrived_is_not_sent_again(
    server: Server, port: int, answers: dict[str, str]
) -> None:
    async with sending(port, patience(answers)) as sender:
        await sender.send(mail(1))
        server.connections[0].answers |= answers
        with pytest.raises(RefusedTemporarily):
            await sender.send(mail(2))
    assert len(server.mails) == 2
    assert len(server.connections) == 1


async def test_a_refused_recipient_is_asked_for_once(server: Server, port: int) -> None:
    async with sending(port) as sender:
        await sender.send(mail(1))
        server.connections[0].answers["RCPT"] = "550 no such user"
        with pytest.raises(RefusedPermanently):
            await sender.send(mail(2, to="nobody@acme.example"))
    assert server.recipients().count("RCPT TO:<nobody@acme.example>") == 1


@pytest.mark.parametrize("where", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
async def test_a_cancelled_send_leaves_nothing_behind(
    server: Server, port: int, where: str
) -> None:
    server.answers = {where: SILENT}
    async with sending(port, connections=1) as sender:
        stuck = asyncio.create_task(sender.send(mail(1)))
        waiting = asyncio.create_task(sender.send(mail(2)))
        await until(
            lambda: (
                server.connections
                and (where == "GREETING" or where in server.connections[0].verbs())
            )
        )
        server.answers = {}
        for task in (waiting, stuck):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.wait_for(server.connections[0].closed.wait(), 20)
        await asyncio.wait_for(sender.send(mail(3)), 20)
    assert len(server.connections) == 2
    assert b"<3@" in server.mails[-1]
    assert len(server.mails) == (2 if where == "DOT" else 1)


@pytest.mark.parametrize("answer", [CUT, SILENT, "500 what?"])
async def test_closing_needs_no_answer(server: Server, port: int, answer: str) -> None:
    server.answers = {"QUIT": answer}
    server.pause = 0.02
    async with asyncio.timeout(20), sending(port, patience(server.answers)) as sender:
        await asyncio.gather(sender.send(mail(1)), sender.send(mail(2)))
    for connection in server.connections:
        await asyncio.wait_for(connection.closed.wait(), 20)


class Wary(SmtpSender):
    COMMAND_TIMEOUT = timedelta(seconds=1.5)
    HUNG = timedelta(seconds=1)
    PAUSE_WHEN_HUNG = timedelta(seconds=3)


async def test_one_email_waits_for_a_server_that_says_nothing_and_the_others_do_not(
    server: Server, port: int
) -> None:
    server.answers = {"GREETING": SILENT}

    async def refused(sender: SmtpSender) -> None:
        with pytest.raises(Unreachable):
            await sender.send(mail())

    async with sending(port, Wary) as sender:
        await asyncio.gather(*(refused(sender) for _ in range(40)))
        assert len(server.connections) == 4, "those that waited for a slot try no more"
        await refused(sender)
        assert len(server.connections) == 4, "nor does who comes soon after"
        await asyncio.sleep(3.2)
        await asyncio.gather(*(refused(sender) for _ in range(40)))
        assert len(server.connections) == 5, "one tries for all"
        server.answers = {}
        await asyncio.sleep(3.2)
        await sender.send(mail())
        await asyncio.gather(*(sender.send(mail(number)) for number in range(2, 6)))
    assert len(server.mails) == 5


# aiosmtpd, with certificates.


class Post:
    """What arrived at aiosmtpd: the envelope, and whether it came over TLS."""

    def __init__(self) -> None:
        self.mails: list[tuple[Envelope, bool]] = []

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert server.transport
        self.mails.append((envelope, server.transport.get_extra_info("cipher") is not None))
        return "250 OK"


def _sign_in(server: Any, session: Any, envelope: Any, mechanism: str, login: Any) -> AuthResult:
    assert isinstance(login, LoginPassword)
    return AuthResult(success=login.password == b"secret", handled=False)


@asynccontextmanager
async def aiosmtpd(post: Post, mode: SmtpTls, certificate: Path) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    starttls = mode == SmtpTls.STARTTLS
    sessions: list[SMTP] = []

    def session() -> SMTP:
        spoken = SMTP(
            post,
            loop=loop,
            tls_context=context if starttls else None,
            require_starttls=starttls,
            authenticator=_sign_in,
            auth_require_tls=starttls,
        )
        sessions.append(spoken)
        return spoken

    listening = await loop.create_server(
        session, "127.0.0.1", 0, ssl=context if mode == SmtpTls.TLS else None
    )
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await until(lambda: all(each.transport is None for each in sessions))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: an authority, a certificate of it for this server, and two of no use."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    for name, issuer, host in (
        ("good", authority, "127.0.0.1"),
        ("self-signed", stranger, "127.0.0.1"),
        ("other-host", authority, "mail.example"),
    ):
        issued = issuer.issue_cert(host)
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    return folder


@pytest.fixture
def trusted(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "authority.pem"))
    return certificates


@pytest.mark.parametrize("mode", list(SmtpTls))
async def test_the_email_arrives_whole(trusted: Path, mode: SmtpTls) -> None:
    post = Post()
    async with (
        aiosmtpd(post, mode, trusted / "good.pem") as port,
        sending(port, tls=mode, username="us", password="secret") as sender,
    ):
        for _ in range(2):
            await sender.send(mail())
    assert len(post.mails) == 2
    for envelope, over_tls in post.mails:
        assert envelope.mail_from == "no-reply@accounts.example"
        assert envelope.rcpt_tos == ["ada@acme.example"]
        assert envelope.content == mail().as_bytes(policy=WIRE.clone(cte_type="7bit"))
        assert over_tls == (mode != SmtpTls.NONE)


@pytest.mark.parametrize("certificate", ["self-signed", "other-host"])
@pytest.mark.parametrize("mode", [SmtpTls.STARTTLS, SmtpTls.TLS])
async def test_a_server_that_cannot_prove_its_name_gets_nothing(
    trusted: Path, mode: SmtpTls, certificate: str
) -> None:
    post = Post()
    async with (
        aiosmtpd(post, mode, trusted / f"{certificate}.pem") as port,
        sending(port, tls=mode, username="us", password="secret") as sender,
    ):
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await sender.send(mail())
    assert not post.mails


async def test_a_wrong_password_is_ours_to_mend(trusted: Path) -> None:
    post = Post()
    async with (
        aiosmtpd(post, SmtpTls.STARTTLS, trusted / "good.pem") as port,
        sending(port, tls=SmtpTls.STARTTLS, username="us", password="wrong") as sender,
    ):
        with pytest.raises(SenderMisconfigured, match=r"^535 "):
            await sender.send(mail())
    assert not post.mails
