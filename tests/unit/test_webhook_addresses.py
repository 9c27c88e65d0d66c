"""No webhook goes to an address inside our own network, however it is written."""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import Any

import pytest

from smart_accounts.webhooks import addresses
from smart_accounts.webhooks.addresses import (
    MAX_URL,
    NO_PUBLIC_ADDRESS,
    NOT_A_URL,
    NOT_HTTPS,
    AddressRules,
    BadUrl,
    _parsed,
    address_rules,
    check_url,
)
from tests.support.web_settings import web_settings
from tests.support.worst_input import PATTERNS, VALIDATOR_SECONDS, cpu_seconds, filled

NOT_FOUND_NOW = "The address of this host cannot be found now. Try again."
PARTNER = AddressRules()
OPERATOR = AddressRules(allowed_networks=(ip_network("10.1.0.0/16"), ip_network("fd00::/8")))
LOCAL = AddressRules(allow_loopback=True)

REFUSED = {
    "loopback": "127.0.0.1 127.1.2.3 [::1] localhost localhost. LOCALHOST",
    "private": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 [fd12::1] [fc00::1]",
    "link-local": "169.254.0.1 [fe80::1] [febf::1]",
    "metadata": "169.254.169.254 [fd00:ec2::254] 100.100.100.200 192.0.0.192 168.63.129.16"
    " [fd20:ce::254] [fd00:c1::a9fe:a9fe] 169.254.170.2",
    "carrier-grade NAT": "100.64.0.1 100.127.255.255",
    "this network": "0.0.0.0 0.1.2.3 [::]",
    "multicast": "224.0.0.1 239.255.255.255 [ff02::1] [ff0e::1]",
    "reserved": "240.0.0.1 255.255.255.255 [4000::1] [fec0::1] [5f00::1]",
    "benchmarks": "198.18.0.1 198.19.255.255 [2001:2::1]",
    "documentation": "192.0.2.1 198.51.100.1 203.0.113.1 [2001:db8::1] [3fff::1]",
    "protocols": "192.0.0.1 192.88.99.1 [2001:10::1] [100::1] [64:ff9b:1::1]",
    "decimal": "2130706433 3232235777 2852039166",
    "octal": "0177.0.0.1 017700000001 0300.0250.1.1",
    "hexadecimal": "0x7f000001 0x7f.0.0.1 0xa9.0xfe.0xa9.0xfe 0xA9FEA9FE",
    "fewer parts": "127.1 0 10.1 192.168.257",
    "trailing dot": "127.0.0.1. 10.0.0.1.",
    "full-width and other digits": "\uff11\uff12\uff17.0.0.1 127\u30020\u30020\u30021 ①②⑦.0.0.1",
    "IPv4-mapped": "[::ffff:127.0.0.1] [::ffff:a9fe:a9fe] [0:0:0:0:0:ffff:10.0.0.1]",
    "IPv4-compatible and translated": "[::127.0.0.1] [::a00:1] [::ffff:0:127.0.0.1]",
    "NAT64": "[64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe] [64:ff9b::10.0.0.1]",
    "6to4": "[2002:7f00:1::] [2002:a9fe:a9fe::1] [2002:808:808::1]",
    "Teredo": "[2001:0:808:808:0:0:80ff:fefe] [2001::1]",
    "zone id": "[fe80::1%25lo] [fe80::1%lo] [::1%25lo] [2a00:1450::1%25lo]",
    "percent-encoded": "127.0.0.%31 %31%32%37.0.0.1",
}
HOSTS = [(kind, host) for kind, hosts in REFUSED.items() for host in hosts.split()]
PUBLIC = (
    "8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.0.1.1 198.17.255.255 198.20.0.1"
    " 223.255.255.255 134744072 0x8.0x8.0x8.0x8 [2a00:1450:4001::1] [::ffff:8.8.8.8]"
    " [64:ff9b::8.8.8.8]"
)


async def refusal(url: str, rules: AddressRules = PARTNER) -> str | None:
    try:
        await check_url(url, rules)
    except BadUrl as error:
        return str(error)
    return None


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str] | Exception]:
    """What the resolver says for each name, instead of what a name server says."""
    known: dict[str, list[str] | Exception] = {}
    real: Callable[..., Any] = socket.getaddrinfo

    def look_up(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        found = known.get(host)
        if found is None:
            return real(host, port, *more, flags=socket.AI_NUMERICHOST, **options)
        if isinstance(found, Exception):
            raise found
        return [entry for each in found for entry in real(each, port, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.mark.parametrize(("kind", "host"), HOSTS)
async def test_refused_addresses(kind: str, host: str) -> None:
    said = await refusal(f"https://{host}/hook")
    assert said in (NO_PUBLIC_ADDRESS, NOT_A_URL)
    assert await refusal(f"https://{host}:8443") == said
    expected = None if kind == "private" and host == "[fd12::1]" else said
    assert await refusal(f"https://{host}/hook", OPERATOR) == expected


@pytest.mark.parametrize("host", PUBLIC.split())
async def test_public_addresses(host: str) -> None:
    assert await refusal(f"https://{host}/hook?key=1") is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", NOT_A_URL),
        ("8.8.8.8", NOT_A_URL),
        ("https://", NOT_A_URL),
        ("https:///hook", NOT_A_URL),
        ("https://.", NOT_A_URL),
        ("https://10.0.0.256.", NOT_A_URL),
        ("https://256.1.1.1.:8443/", NOT_A_URL),
        ("https:8.8.8.8", NOT_A_URL),
        (" https://8.8.8.8", NOT_A_URL),
        ("https://8.8.8.8\r\nHost: x", NOT_A_URL),
        ("https://8.8.8.8/\x00", NOT_A_URL),
        ("https://\ud800/", NOT_A_URL),
        ("https://[::1/", NOT_A_URL),
        ("https://b\xfccher.example/", NOT_A_URL),
        ("https://8.8.8.8/\xfc", NOT_A_URL),
        (f"https://{'a' * 64}.example/", NO_PUBLIC_ADDRESS),
        (f"https://{'a.' * 128}example/", NOT_A_URL),
        (f"https://8.8.8.8/{'a' * MAX_URL}", f"Enter a URL of at most {MAX_URL} characters."),
        ("http://8.8.8.8/", NOT_HTTPS),
        ("HTTP://8.8.8.8:8443/", NOT_HTTPS),
        ("ftp://8.8.8.8/", NOT_HTTPS),
        ("file://8.8.8.8/etc/passwd", NOT_HTTPS),
        ("gopher://8.8.8.8:6379/", NOT_HTTPS),
        ("https://me@8.8.8.8/", "The URL must not have a user name or a password."),
        ("https://8.8.8.8:443@127.0.0.1/", "The URL must not have a user name or a password."),
        ("https://8.8.8.8\\@127.0.0.1/", "The URL must not have a user name or a password."),
        *(
            (f"https://8.8.8.8:{port}/", "Use port 443, or a port from 1024 to 65535.")
            for port in (0, 22, 25, 80, 442, 444, 1023, 65536, 99999)
        ),
    ],
)
async def test_refused_urls(url: str, said: str) -> None:
    assert await refusal(url) == said
    assert await refusal(url, OPERATOR) == said


async def test_names_are_judged_by_all_their_addresses(names: dict[str, Any]) -> None:
    names["good.example"] = ["8.8.8.8", "2a00:1450:4001::1"]
    names["xn--bcher-kva.example"] = ["8.8.8.8"]
    names["mixed.example"] = ["8.8.8.8", "10.0.0.1"]
    names["inside.example"] = ["10.1.2.3"]
    names["absent.example"] = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    names["empty.example"] = []
    receiver = await check_url("https://GOOD.example.:8443/hook", PARTNER)
    assert receiver.addresses == ("8.8.8.8", "2a00:1450:4001::1")
    assert (str(receiver.url), receiver.port) == ("https://good.example:8443/hook", 8443)
    assert await refusal("https://xn--bcher-kva.example/") is None
    # Nobody learns which names exist inside, because all get the same words.
    for name in ("mixed", "inside", "absent", "empty"):
        assert await refusal(f"https://{name}.example/") == NO_PUBLIC_ADDRESS
    assert await refusal("https://inside.example/", OPERATOR) is None
    assert await refusal("https://mixed.example/", OPERATOR) == NO_PUBLIC_ADDRESS


async def test_slow_name_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    response = threading.Event()

    def look_up(*_: Any, **__: Any) -> list[Any]:
        threads.append(threading.current_thread().name)
        response.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(addresses, "_LOOKUP_TIME", 0.1)
    said = await asyncio.gather(*(refusal("https://slow.example/") for _ in range(5)))
    assert said == [NOT_FOUND_NOW] * 5
    # It must delay neither lookups of the mail server nor those of other receivers.
    [thread] = threads
    assert thread.startswith("webhook-lookup")
    monkeypatch.setattr(addresses, "_LOOKUP_TIME", 10)
    late = asyncio.ensure_future(refusal("https://slow.example/"))
    await asyncio.sleep(0)  # it waits for the same lookup now
    response.set()
    assert await late == await refusal("https://slow.example/") == NO_PUBLIC_ADDRESS
    assert len(threads) == 2


async def test_lookups_that_wait_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    response = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: response.wait(10) and [])
    monkeypatch.setattr(addresses, "_threads", ThreadPoolExecutor(1))
    monkeypatch.setattr(addresses, "_LOOKUP_TIME", 0.1)
    slow = asyncio.ensure_future(refusal("https://slow.example/"))
    first = asyncio.ensure_future(refusal("https://waiting.example/"))
    await asyncio.sleep(0)
    monkeypatch.setattr(addresses, "_LOOKUP_TIME", 10)
    second = asyncio.ensure_future(refusal("https://waiting.example/"))
    assert await first == await slow == NOT_FOUND_NOW
    response.set()
    assert await second == NO_PUBLIC_ADDRESS  # not cancelled together with the first


async def test_plain_http_only_on_this_machine(names: dict[str, Any]) -> None:
    names["inside.example"] = ["10.1.2.3"]
    names["mixed.example"] = ["127.0.0.1", "8.8.8.8"]
    names["here.example"] = ["127.0.0.1", "::1"]
    for url in ("http://127.0.0.1:8080/", "https://[::1]:8443/", "http://here.example:8080/"):
        assert await refusal(url, LOCAL) is None
    for name in ("mixed.example", "8.8.8.8"):
        assert await refusal(f"http://{name}:8080/", LOCAL) == NOT_HTTPS
        assert await refusal(f"https://{name}:8080/", LOCAL) is None
    assert await refusal("https://10.0.0.1/", LOCAL) == NO_PUBLIC_ADDRESS
    assert await refusal("http://inside.example:8080/", OPERATOR) == NOT_HTTPS


async def test_metadata_inside_allowed_networks() -> None:
    everything = AddressRules(
        allowed_networks=(ip_network("100.64.0.0/10"), ip_network("fc00::/7"))
    )
    assert await refusal("https://100.64.0.1/", everything) is None
    assert await refusal("https://[fd00::1]/", everything) is None
    for host in ("100.100.100.200", "[fd00:ec2::254]", "[fd20:ce::254]", "[fd00:c1::a9fe:a9fe]"):
        assert await refusal(f"https://{host}/", everything) == NO_PUBLIC_ADDRESS


def test_rules_of_the_settings() -> None:
    public = web_settings(
        "https://accounts.example", webhook_allowed_networks="10.1.0.0/16,fd00::/8"
    )
    assert address_rules(public, for_all_requests=True) == OPERATOR
    assert address_rules(public, for_all_requests=False) == PARTNER
    local = web_settings("http://127.0.0.1:8000")
    assert address_rules(local, for_all_requests=False) == LOCAL


@pytest.mark.parametrize("pattern", PATTERNS)
def test_worst_urls(pattern: str) -> None:
    for start in ("", "https://", "https://a/", "https://a/?", "https://a:"):
        for size in (120, 254, 290, 300, MAX_URL - len(start), 100_000):
            url = start + filled(PATTERNS[pattern], size)
            taken = cpu_seconds(_parsed, url, enough=VALIDATOR_SECONDS)
            assert taken < VALIDATOR_SECONDS, (start, size)
