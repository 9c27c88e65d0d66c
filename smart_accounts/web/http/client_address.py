"""The IP address of the client, for the rate limits and the security log."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import Scope


def client_address(scope: Scope) -> IPv4Address | IPv6Address | None:
    """Return the address, or None if the client has none, for example on a Unix socket.

    Behind a proxy uvicorn takes the address from ``X-Forwarded-For``, if the proxy's own address
    is in ``FORWARDED_ALLOW_IPS``. An IPv4 address that is mapped into IPv6 is returned as IPv4.
    """
    host = scope["client"][0] if scope["client"] else ""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    # Python keeps any text after "%" as the zone. A client could write anything there.
    return address.ipv4_mapped or IPv6Address(int(address))
