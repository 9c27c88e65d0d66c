"""One HTTP call to a receiver, which may be broken or hostile."""

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from smart_accounts.store.webhook_records import Attempt
from smart_accounts.text import one_line
from smart_accounts.version import VERSION
from smart_accounts.webhooks.addresses import AddressRules, BadUrl, Receiver, check_url

TIME_LIMIT = 10
"""The most seconds that a call may take, from the lookup of the name to the response."""
MAX_SHOWN = 300
"""The most characters of a response that the owner of an endpoint sees."""

_NOT_HTTP = "The response is not valid HTTP."
_CONNECT_TIME = 3  # seconds for each address, so that there is time for the next one
_MAX_TRIED = 3  # addresses
_MAX_SHOWN_BYTES = MAX_SHOWN * 4  # UTF-8 has up to four bytes for each
_MAX_READ = 32768  # bytes of a response, with its headers
_HTTPCORE_ERRORS = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
_HEADERS = {
    "Content-Type": "application/cloudevents+json; charset=utf-8",
    "User-Agent": f"Smart-Account-Requests/{VERSION}",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class WebhookSender:
    """Sends webhooks. Each call looks up the host's name and opens a connection of its own.

    So there is no connection to an address that was checked long ago. Proxies from the environment
    are not used, redirects are not followed, and nothing is decompressed.
    """

    def __init__(self) -> None:
        # With SSL_CERT_FILE, an operator can add the authority of private receivers.
        self._tls = httpx.create_ssl_context()

    async def send(
        self, url: str, headers: Mapping[str, str], body: str, rules: AddressRules
    ) -> Attempt:
        """Send the body once, with the headers that ``sign`` returned.

        The result says what the receiver did. Nothing is raised.
        """
        began = time.monotonic()
        response = _Response()
        error = None
        try:
            async with asyncio.timeout(TIME_LIMIT):
                receiver = await check_url(url, rules)
                await self._exchange(receiver, headers, body.encode(), response)
        except (BadUrl, TimeoutError, _Failed, ssl.SSLError, *_HTTPCORE_ERRORS) as failure:
            error = _words(failure)
        # A status that has arrived counts, even if the body was too slow or broke off.
        return Attempt(
            status_code=response.status,
            error=_problem(response.status) if response.status else error,
            response=one_line(response.body.decode(errors="replace"))[:MAX_SHOWN] or None,
            took_ms=round((time.monotonic() - began) * 1000),
        )

    async def _exchange(
        self, receiver: Receiver, headers: Mapping[str, str], body: bytes, response: "_Response"
    ) -> None:
        url = receiver.url
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=receiver.port, target=url.raw_path
        )
        all_headers = [("Host", url.netloc.decode()), *_HEADERS.items(), *headers.items()]
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, network_backend=_CheckedAddresses(receiver.addresses)
            ) as pool,
            pool.stream("POST", target, headers=all_headers, content=body) as received,
        ):
            response.status = received.status
            async for part in received.aiter_stream():
                response.body += part[:_MAX_SHOWN_BYTES]
                if len(response.body) >= _MAX_SHOWN_BYTES:
                    break


@dataclass
class _Response:
    """What has come of a response so far."""

    status: int | None = None
    body: bytes = b""


class _Failed(Exception):
    """A call failed before there was a status. The message has our own words."""


class _CheckedAddresses(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, and looks up nothing."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses[:_MAX_TRIED]
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - the name of the addresses, which TLS verifies
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore's signature
        local_address: str | None = None,  # noqa: ARG002 - httpcore's signature
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - as above
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that accepts the connection."""
        failure: Exception = httpcore.ConnectError()
        for address in self._addresses:
            try:
                stream = await self._network.connect_tcp(address, port, timeout=_CONNECT_TIME)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _BoundedStream(stream)
        raise failure


class _BoundedStream(httpcore.AsyncNetworkStream):
    """A connection on which at most ``_MAX_READ`` bytes are read."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = _MAX_READ

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> bytes:
        if self._left <= 0:
            raise _Failed(_NOT_HTTP)
        data = await self._stream.read(min(max_bytes, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        try:
            stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError):
                raise _Failed("The certificate is not valid for this host.") from None
            raise _Failed("No secure connection. Check that the receiver supports TLS.") from None
        return _BoundedStream(stream)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _words(failure: Exception) -> str:
    """Return our own words for what went wrong before there was a status."""
    match failure:
        case BadUrl() | _Failed():
            words = str(failure)
        case TimeoutError():
            words = (
                f"No response within {TIME_LIMIT} seconds. Respond first, then process the event."
            )
        case httpcore.ConnectError() | httpcore.ConnectTimeout():
            words = "No connection. Check that the receiver is running."
        case httpcore.NetworkError() | ssl.SSLError():  # of TLS after the handshake
            words = "The receiver closed the connection without a response."
        case _:
            words = _NOT_HTTP
    return words


def _problem(status: int) -> str | None:
    """Return what the owner should change, or None if the receiver took the event."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return "Redirects are not followed. Enter the URL that they lead to."
    return "The receiver did not take the event. It must respond with a status from 200 to 299."
