"""Emails arrive complete, over TLS if set, and only at a server with a valid certificate."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.policy import SMTP as WIRE
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from smart_accounts.mail.smtp import SenderMisconfigured, Unreachable
from smart_accounts.settings import SmtpTls
from tests.support.scripted_smtp_server import example_email, open_sender, wait_until

pytestmark = pytest.mark.server


class Inbox:
    """The envelopes that arrived, each with whether it came over TLS."""

    def __init__(self) -> None:
        self.emails: list[tuple[Envelope, bool]] = []

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert server.transport
        self.emails.append((envelope, server.transport.get_extra_info("cipher") is not None))
        return "250 OK"


def _authenticate(
    server: Any, session: Any, envelope: Any, mechanism: str, login: Any
) -> AuthResult:
    assert isinstance(login, LoginPassword)
    return AuthResult(success=login.password == b"secret", handled=False)


@asynccontextmanager
async def aiosmtpd(inbox: Inbox, mode: SmtpTls, certificate: Path) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    starttls = mode == SmtpTls.STARTTLS
    sessions: list[SMTP] = []

    def new_session() -> SMTP:
        session = SMTP(
            inbox,
            loop=loop,
            tls_context=context if starttls else None,
            require_starttls=starttls,
            authenticator=_authenticate,
            auth_require_tls=starttls,
        )
        sessions.append(session)
        return session

    listener = await loop.create_server(
        new_session, "127.0.0.1", 0, ssl=context if mode == SmtpTls.TLS else None
    )
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    await wait_until(lambda: all(session.transport is None for session in sessions))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate authority, one good certificate and two bad ones."""
    folder = tmp_path_factory.mktemp("certificates")
    authority, unknown_authority = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    for name, issuer, host in (
        ("good", authority, "127.0.0.1"),
        ("unknown-authority", unknown_authority, "127.0.0.1"),
        ("other-host", authority, "mail.example"),
    ):
        issued = issuer.issue_cert(host)
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    return folder


@pytest.fixture
def trusted(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The certificates, with their authority trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "authority.pem"))
    return certificates


@pytest.mark.parametrize("mode", list(SmtpTls))
async def test_email_arrives_complete(trusted: Path, mode: SmtpTls) -> None:
    inbox = Inbox()
    async with (
        aiosmtpd(inbox, mode, trusted / "good.pem") as port,
        open_sender(port, tls=mode, username="us", password="secret") as sender,
    ):
        for _ in range(2):
            await sender.send(example_email())
    assert len(inbox.emails) == 2
    for envelope, over_tls in inbox.emails:
        assert envelope.mail_from == "no-reply@accounts.example"
        assert envelope.rcpt_tos == ["ada@acme.example"]
        assert envelope.content == example_email().as_bytes(policy=WIRE.clone(cte_type="7bit"))
        assert over_tls == (mode != SmtpTls.NONE)


@pytest.mark.parametrize("certificate", ["unknown-authority", "other-host"])
@pytest.mark.parametrize("mode", [SmtpTls.STARTTLS, SmtpTls.TLS])
async def test_server_with_a_bad_certificate_gets_nothing(
    trusted: Path, mode: SmtpTls, certificate: str
) -> None:
    inbox = Inbox()
    async with (
        aiosmtpd(inbox, mode, trusted / f"{certificate}.pem") as port,
        open_sender(port, tls=mode, username="us", password="secret") as sender,
    ):
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await sender.send(example_email())
    assert not inbox.emails


async def test_wrong_password_is_our_misconfiguration(trusted: Path) -> None:
    inbox = Inbox()
    async with (
        aiosmtpd(inbox, SmtpTls.STARTTLS, trusted / "good.pem") as port,
        open_sender(port, tls=SmtpTls.STARTTLS, username="us", password="wrong") as sender,
    ):
        with pytest.raises(SenderMisconfigured, match=r"^535 "):
            await sender.send(example_email())
    assert not inbox.emails
