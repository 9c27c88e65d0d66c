"""Networks, hosts and web addresses in settings."""

from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, AnyHttpUrl, BeforeValidator
from pydantic_settings import NoDecode

Network = IPv4Network | IPv6Network

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""The ranges for private use (RFC 1918, RFC 6598, RFC 4193)."""

_RANGES = [(each.version, int(each[0]), int(each[-1])) for each in map(ip_network, PRIVATE)]


def is_this_machine(host: str | None) -> bool:
    return host in ("127.0.0.1", "::1", "[::1]", "localhost")


def is_host(value: str) -> bool:
    """Return True if a value can be looked up. For others, Python raises all kinds of errors."""
    with suppress(UnicodeError):
        return value.isprintable() and bool(value.encode("idna"))
    return False


def private_networks(text: str | tuple[Network, ...]) -> tuple[Network, ...]:
    """Read networks that are separated by commas.

    A network that is not private is a mistake, because it would open addresses of this machine and
    of its cloud.
    """
    if not isinstance(text, str):  # the default
        return text
    try:
        networks = [ip_network(part.strip()) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError("must be networks, such as 10.1.0.0/16 or fd00:7::/32") from None
    if not all(map(_is_private, networks)):
        raise ValueError(f"must be inside {', '.join(PRIVATE)}")
    return tuple(networks)


def _is_private(network: Network) -> bool:
    first, last = int(network[0]), int(network[-1])
    return any(
        network.version == version and begin <= first and last <= end
        for version, begin, end in _RANGES
    )


def _without_login(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.username is not None or url.password is not None:
        raise ValueError("must not have a user name or a password")
    return url


def _without_query(url: AnyHttpUrl) -> AnyHttpUrl:
    if url.query is not None or url.fragment is not None:
        raise ValueError("must not have a query or a fragment")
    return url


def _issuer(value: str) -> str:
    # The value stays unchanged, because the ``iss`` claim of a token must equal it exactly.
    url = urlsplit(value)
    is_local = url.scheme == "http" and is_this_machine(url.hostname)
    if not url.hostname or not (url.scheme == "https" or is_local):
        raise ValueError("must begin with https://, or with http:// on this machine")
    if "@" in url.netloc or "?" in value or "#" in value:
        raise ValueError("must not have a user name, a query or a fragment")
    if not value.isprintable() or " " in value:  # urlsplit ignores line breaks
        raise ValueError("must not contain spaces or control characters")
    return value


WebAddress = Annotated[AnyHttpUrl, AfterValidator(_without_login)]
"""The address of a page. People see it, so it must not contain a password."""
BaseAddress = Annotated[WebAddress, AfterValidator(_without_query)]
"""An address to which paths are added."""
IssuerAddress = Annotated[str, AfterValidator(_issuer)]
PrivateNetworks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(private_networks)]
