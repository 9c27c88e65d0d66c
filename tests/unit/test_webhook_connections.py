"""Webhooks go to checked addresses only, and to hosts that prove their name."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import trustme

from smart_accounts.webhooks.addresses import NO_PUBLIC_ADDRESS, AddressRules
from tests.support.webhook_receiver import BODY, open_receiver, plain, send, send_to

pytestmark = pytest.mark.server

NO_RESPONSE = "The receiver closed the connection without a response."


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Make a server's TLS context for a name. The sender trusts its authority."""
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))

    def context(host: str, issuer: trustme.CA = authority) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert(host).configure_cert(made)
        return made

    return context


class Resolver:
    """A name server that gives other addresses at each lookup."""

    def __init__(self, *results: str) -> None:
        self.results = list(results)
        self.lookups = 0

    def __call__(self, host: Any, port: Any, **_: Any) -> list[Any]:
        found = self.results[min(self.lookups, len(self.results) - 1)]
        self.lookups += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found.split()]


@pytest.mark.parametrize("certificate", ["good", "of another host", "of an unknown authority"])
async def test_certificates(tls: Callable[..., Any], certificate: str) -> None:
    contexts = {
        "good": tls("localhost"),
        "of another host": tls("other.example"),
        "of an unknown authority": tls("localhost", trustme.CA()),
    }
    async with open_receiver(plain(), tls=contexts[certificate]) as received:
        for host in ("localhost", "LOCALHOST."):
            attempt = await send(f"https://{host}:{received.port}/")
            is_good = certificate == "good"
            error = None if is_good else "The certificate is not valid for this host."
            assert attempt.error == error
    assert len(received.requests) == (2 if is_good else 0)


async def test_receiver_without_tls() -> None:
    received = b""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received = await reader.read(65536)
        writer.write(b"220 mail.internal ESMTP\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        attempt = await send(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert attempt.error == "No secure connection. Check that the receiver supports TLS."
    assert (attempt.status_code, attempt.response) == (None, None)
    assert BODY.encode() not in received


async def test_receiver_that_asks_for_a_certificate(tls: Callable[..., Any]) -> None:
    """With TLS 1.3, it refuses only after the handshake has ended for the sender."""
    context = tls("localhost")
    context.verify_mode = ssl.CERT_REQUIRED
    async with open_receiver(plain(), tls=context) as received:
        attempt = await send(f"https://localhost:{received.port}/")
    assert (attempt.error, attempt.status_code) == (NO_RESPONSE, None)


async def test_receiver_that_leaves_tls(tls: Callable[..., Any]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        os.write(writer.get_extra_info("socket").fileno(), b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls("localhost")) as server:
        attempt = await send(f"https://localhost:{server.sockets[0].getsockname()[1]}/")
    assert (attempt.error, attempt.status_code) == (NO_RESPONSE, None)


async def test_address_that_was_checked_is_used(
    tls: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name means our network a moment later, as in an attack by DNS rebinding."""
    resolver = Resolver("127.0.0.1", "10.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    async with open_receiver(plain(), tls=tls("rebinding.example")) as received:
        url = f"https://rebinding.example:{received.port}/"
        assert (await send(url)).is_delivered
        assert resolver.lookups == 1
        refused = await send(url)
    assert (refused.error, refused.status_code) == (NO_PUBLIC_ADDRESS, None)
    assert received.connections == 1
    [(headers, _)] = received.requests
    assert headers["host"] == f"rebinding.example:{received.port}"


async def test_refused_addresses_get_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_receiver(plain()) as received:
        for found in ("127.0.0.1", "8.8.8.8 127.0.0.1"):
            monkeypatch.setattr(socket, "getaddrinfo", Resolver(found))
            attempt = await send(f"https://inside.example:{received.port}/", AddressRules())
            assert attempt.error == NO_PUBLIC_ADDRESS
    assert received.connections == 0


async def test_another_address_has_its_turn(
    tls: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Resolver("127.0.0.2 127.0.0.3 127.0.0.1"))
    async with open_receiver(plain(), tls=tls("many.example")) as received:
        assert (await send(f"https://many.example:{received.port}/")).is_delivered
        monkeypatch.setattr(
            socket, "getaddrinfo", Resolver("127.0.0.2 127.0.0.3 127.0.0.4 127.0.0.1")
        )
        # A name with thousands of addresses is no way to look for open ports.
        assert not (await send(f"https://many.example:{received.port}/")).is_delivered
    assert received.connections == 1


async def test_private_receiver_of_an_operator(tls: Callable[..., Any]) -> None:
    rules = AddressRules(allowed_networks=(ip_network("10.1.0.0/16"),))
    async with open_receiver(plain(), tls=tls("localhost")) as received:
        attempt = await send(f"https://localhost:{received.port}/", rules)
    assert attempt.error == NO_PUBLIC_ADDRESS  # only what is listed


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_receiver(plain()) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        attempt, _ = await send_to(plain())
    assert attempt.is_delivered
    assert proxy.connections == 0
