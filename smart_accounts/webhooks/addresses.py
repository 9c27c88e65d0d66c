"""Which addresses webhooks may be sent to, so that nobody reaches our own network with them."""

import asyncio
import re
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from smart_accounts.errors import SmartAccountsError
from smart_accounts.networks import Network
from smart_accounts.settings import Settings

MAX_URL = 2048
"""The most characters that a URL may have."""
NO_PUBLIC_ADDRESS = "This host has no public address. Check the URL."
"""The message for an address that is not allowed, and for a name without an address.

It is the same for both, so that nobody learns which names and addresses our own network has.
"""

NOT_A_URL = (
    "Enter a web address such as https://example.com/webhooks, without spaces and without letters"
    " such as é or ü."
)
NOT_HTTPS = "The URL must begin with https://."

_MAX_HOST = 253
# ASCII only, and after the host only the characters that RFC 3986 allows. httpx needs milliseconds
# for some other texts, and its rules for names in other scripts differ from those of the resolver.
_FORM = re.compile(r"\w{1,9}://[$-.0->@-~]{1,300}([/?#][\w\-.~:/?#\[\]@!$&'()*+,;=%]*)?", re.ASCII)
_LOOKUP_TIME = 5  # seconds

# What ``is_global`` of Python 3.11 allows, although it is not an address of a receiver.
_NEVER = [
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's metadata
        "192.0.0.0/24",  # protocol assignments, with Oracle's metadata
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments, such as Teredo
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]
# Metadata of cloud providers inside the ranges that an operator may allow.
_METADATA = [
    ip_network(network)
    for network in (
        "100.100.100.200/32",  # Alibaba
        "fd00:c1::a9fe:a9fe/128",  # Oracle
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
    )
]
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_WITH_IPV4 = [IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96")]  # mapped, and NAT64

# Threads of their own, because those of asyncio look up the mail server too. A slow name server
# occupies a thread for half a minute, so a host has only one lookup at a time.
_threads = ThreadPoolExecutor(max_workers=100, thread_name_prefix="webhook-lookup")
_under_way: dict[str, Future[list[str]]] = {}


class BadUrl(SmartAccountsError):
    """Webhooks may not be sent to this URL. The message is for the owner of the endpoint."""


@dataclass(frozen=True)
class AddressRules:
    """Which addresses an endpoint may have, in addition to public ones."""

    allow_loopback: bool = False
    allowed_networks: tuple[Network, ...] = ()

    def allow(self, address: IPv4Address | IPv6Address) -> bool:
        """Return True if webhooks may be sent to this address."""
        address = _without_ipv6_form(address)
        if address.is_loopback:
            return self.allow_loopback
        if any(address in network for network in _METADATA):
            return False
        return _is_public(address) or any(address in each for each in self.allowed_networks)


def address_rules(settings: Settings, *, for_all_requests: bool) -> AddressRules:
    """Return the rules for an operator's endpoint for all requests, or for a partner's."""
    return AddressRules(
        allow_loopback=settings.is_local,
        allowed_networks=settings.webhook_allowed_networks if for_all_requests else (),
    )


@dataclass(frozen=True)
class Receiver:
    """A URL that was checked, with the addresses that its host had at that moment."""

    url: httpx.URL
    port: int
    addresses: tuple[str, ...]


async def check_url(url: str, rules: AddressRules) -> Receiver:
    """Check a URL at its registration and before each delivery, because a name's address changes.

    Raises:
        BadUrl: Webhooks may not be sent there.
    """
    parsed = _parsed(url)
    is_plain = parsed.scheme == "http" and rules.allow_loopback
    if parsed.scheme != "https" and not is_plain:
        raise BadUrl(NOT_HTTPS)
    port = 443 if parsed.port is None else parsed.port
    if not 1024 <= port <= 65535 and (port != 443 or is_plain):
        raise BadUrl("Use port 443, or a port from 1024 to 65535.")
    addresses = await _addresses_of(parsed.raw_host.decode())
    found = list(map(ip_address, addresses))
    if not found or not all(map(rules.allow, found)):
        raise BadUrl(NO_PUBLIC_ADDRESS)
    if is_plain and not all(address.is_loopback for address in found):
        raise BadUrl(NOT_HTTPS)
    return Receiver(parsed, port, tuple(addresses))


def _parsed(url: str) -> httpx.URL:
    if len(url) > MAX_URL:
        raise BadUrl(f"Enter a URL of at most {MAX_URL} characters.")
    try:
        parsed = httpx.URL(url if _FORM.fullmatch(url) else "")
        if parsed.raw_host.endswith(b"."):  # no certificate has the dot
            parsed = parsed.copy_with(host=parsed.raw_host[:-1].decode())
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if not 0 < len(parsed.raw_host) <= _MAX_HOST:
        raise BadUrl(NOT_A_URL)
    if parsed.userinfo:
        raise BadUrl("The URL must not have a user name or a password.")
    return parsed


async def _addresses_of(host: str) -> list[str]:
    """Return the addresses of a host. The resolver also reads numbers, such as 2130706433."""
    lookup = _under_way.get(host)
    if lookup is None:
        lookup = _under_way[host] = _threads.submit(_look_up, host)
        lookup.add_done_callback(lambda _: _under_way.pop(host, None))
    try:
        async with asyncio.timeout(_LOOKUP_TIME):
            return await asyncio.shield(asyncio.wrap_future(lookup))
    except TimeoutError:
        raise BadUrl("The address of this host cannot be found now. Try again.") from None


def _look_up(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(address[0]) for *_, address in found]


def _without_ipv6_form(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that packets go to in the end, if it is written as IPv6."""
    if isinstance(address, IPv6Address) and any(address in each for each in _WITH_IPV4):
        return IPv4Address(address.packed[-4:])
    return address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    is_unicast = address.is_global and not address.is_multicast
    return is_unicast and not any(address in network for network in _NEVER)
