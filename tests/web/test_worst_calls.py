"""Each part of a call gets the worst values of the permitted size, which cost little CPU time."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from urllib.parse import quote, unquote

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from smart_accounts.web.api.json_bodies import MAX_BODY
from smart_accounts.web.bounces import MAX_REPORT
from smart_accounts.web.dependencies import MAX_SESSION_FORM
from smart_accounts.web.http.forms import MAX_FORM
from smart_accounts.web.requests.form import LABELS
from tests.support.issuer import Issuer
from tests.support.scenario import Run
from tests.support.site import OpenSite
from tests.support.worst_input import CALL_SECONDS, PATTERNS, cpu_seconds, filled

MAX_HEADERS = 63 * 1024  # bytes; the server reads at most 64 KB of headers
API = "/api/v1/requests"
ACME = "smart-account-acme.example"
NEW = {"account_name": "Acme", "customer_email": "ada@acme.example"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
PARTNERS_FORMS = [
    *(("/requests/review", name) for name in LABELS),
    ("/requests", "form_id"),
    ("/requests/new", "user_emails"),
    (f"/requests/{ACME}/replace-approver", "customer_email"),
    (f"/requests/{ACME}/withdraw", "reason"),
    (f"/requests/{ACME}/reject", "reason"),
    (f"/requests/{ACME}/close", "reason"),
    ("/sign-in/company", "company"),
]
API_BODIES = [
    *((API, name, NEW) for name in LABELS),
    (f"{API}/{ACME}/replace-approver", "customer_email", {}),
    (f"{API}/{ACME}/withdraw", "reason", {}),
    (f"{API}/{ACME}/reject", "reason", {}),
    (f"{API}/{ACME}/close", "reason", {}),
]
PARAMETERS = [
    *(("/requests", name) for name in ("status", "q", "page")),
    ("/requests/new", "draft"),
    *((API, name) for name in ("status", "search", "page", "limit", "unknown")),
    (f"/requests/{ACME}", "run"),
    (f"{API}/{ACME}", "run"),
    ("/sessions", "email"),
    ("/sign-in", "next"),
    ("/sign-in/company", "next"),
    *(("/sign-in/callback", name) for name in ("state", "code", "error", "iss")),
]
PATHS = [
    "/",
    "/requests/review/",
    "/requests/smart-account-",
    f"{API}/smart-account-",
    "/activate/",
]
HEADERS = ["Authorization", "Content-Type", "Cookie", "Host", "Idempotency-Key", "Origin"]


@dataclass(frozen=True)
class Client:
    """An HTTP client with an operator's session and Pat's access token. Its calls have no limit."""

    http: httpx.AsyncClient
    csrf: str
    link: str
    """The path of an open activation link."""

    def get(self, target: str) -> httpx.Request:
        """Build a call with this path and query. httpx would parse a long one for a long time."""
        return self.http.build_request("GET", "/", headers={"Target": target})


@pytest.fixture
async def client(open_site: OpenSite, issuer: Issuer) -> AsyncIterator[Client]:
    async with open_site(**issuer.settings, bounce_domain="bounces.example") as site:
        await site.start_session(subject="opal", is_operator=True)  # operators have more forms
        link = f"/activate/{await site.add_request()}"
        page = (await site.http.get("/requests")).text
        csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
        numbers = count(1)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            number = next(numbers)  # the limits count the calls from each address
            address = f"10.0.{number // 256}.{number % 256}"
            await site.app(aimed({**scope, "client": (address, 1)}), receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://127.0.0.1",
            cookies=site.http.cookies,
            headers=issuer.headers(),
        ) as http:
            yield Client(http, csrf, link)


def aimed(scope: Scope) -> Scope:
    """Return the scope with the target that a header names, as a server makes it."""
    headers = dict(scope["headers"])
    target: bytes | None = headers.pop(b"target", None)
    if target is None:
        return scope
    path, _, query = target.partition(b"?")
    named = {"raw_path": path, "path": unquote(path.decode()), "query_string": query}
    return {**scope, "headers": list(headers.items()), **named}


@pytest.fixture
async def run() -> Run:
    """Return a way to run coroutines on the loop of the fixtures from a test without a loop."""
    return asyncio.get_running_loop().run_until_complete


def cut(text: str, size: int) -> str:
    """Return the text, cut to this size in UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def calls_with(fill: str, client: Client) -> dict[str, Callable[[], httpx.Request]]:
    """Return a call for each field, parameter, header and path, with this text in it.

    A call is made when it is needed, because that costs more than to send it.
    """
    request = client.http.build_request
    get = client.get
    quoted = quote(fill[:MAX_HEADERS])[:MAX_HEADERS]

    def form(path: str, name: str, csrf: str = "", size: int = MAX_FORM) -> httpx.Request:
        return request("POST", path, content=cut(f"{csrf}{name}={fill}", size), headers=FORM)

    def body(path: str, name: str, others: dict[str, str]) -> httpx.Request:
        content = json.dumps(others | {name: cut(fill, MAX_BODY - 200)}, ensure_ascii=False)
        if len(content.encode()) > MAX_BODY:  # JSON writes some characters with six
            content = json.dumps(others | {name: cut(fill, MAX_BODY // 7)}, ensure_ascii=False)
        return request("POST", path, content=content, headers=JSON)

    def header(name: str) -> httpx.Request:
        given = {name.encode(): cut(fill, MAX_HEADERS).encode()}
        return request("POST", API, json=NEW, headers=given)

    signed_in = partial(form, csrf=f"csrf={client.csrf}&", size=MAX_SESSION_FORM)
    answers = (client.link, "agree"), (f"{client.link}/decline", "reason")
    return {
        **{f"{path} {n}": partial(signed_in, path, n) for path, n in PARTNERS_FORMS},
        **{f"{path} {n}": partial(form, path, n) for path, n in answers},
        **{f"{path} {n}": partial(body, path, n, others) for path, n, others in API_BODIES},
        **{f"{path} {n}": partial(get, f"{path}?{n}={quoted}") for path, n in PARAMETERS},
        **{path: partial(get, path + quoted) for path in PATHS},
        **{name: partial(header, name) for name in HEADERS},
        "bounce": lambda: request("POST", "/hooks/bounces", content=cut(fill, MAX_REPORT)),
    }


@pytest.mark.parametrize("turn", range(len(PATTERNS)))
def test_worst_values(client: Client, run: Run, turn: int, full: bool) -> None:
    """Send each call a sixth of the patterns, or a third with ``--full``.

    ``test_worst_input`` tries all on each validator.
    """
    share = 3 if full else 6

    def send(call: httpx.Request) -> None:
        status = run(client.http.send(call)).status_code
        assert status not in (429, 500)

    pattern = list(PATTERNS.values())[turn]
    calls = calls_with(filled(pattern, MAX_REPORT), client)
    for name in list(calls)[turn % share :: share]:
        assert cpu_seconds(send, calls[name](), enough=CALL_SECONDS) < CALL_SECONDS, name


MANY = {
    "form": ("/requests/review", FORM, "&".join(map(str, range(8500)))),
    "one field": ("/requests/review", FORM, "a=&" * 16_000),
    "API": (API, JSON, json.dumps({str(number): 1 for number in range(1500)})),
    "addresses": (API, JSON, json.dumps(NEW | {"user_emails": [""] * 3500})),
    "brackets": (API, JSON, "[" * MAX_BODY),
    "objects": (API, JSON, '{"a":' * 3200),
}


@pytest.mark.parametrize("shape", MANY)
def test_many_fields(client: Client, run: Run, shape: str) -> None:
    path, headers, body = MANY[shape]
    call = client.http.build_request("POST", path, content=body, headers=headers)
    taken = cpu_seconds(lambda: run(client.http.send(call)), enough=CALL_SECONDS)
    assert taken < CALL_SECONDS


@pytest.mark.parametrize("path", ["/requests", API])
@pytest.mark.parametrize(
    "query", ["&".join(map(str, range(20_000))), "a=&" * 30_000], ids=["different", "same"]
)
def test_many_parameters(client: Client, run: Run, path: str, query: str) -> None:
    call = client.get(f"{path}?{query[:MAX_HEADERS]}")
    taken = cpu_seconds(lambda: run(client.http.send(call)), enough=CALL_SECONDS)
    assert taken < CALL_SECONDS
