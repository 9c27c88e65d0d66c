"""The operator's mail server hands over what came back, on the real store."""

import asyncio
import logging
import re
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from smart_accounts.contract.messages import (
    Addressee,
    Bounce,
    Email,
    EmailKind,
    EmailState,
    SmartAccountRequest,
)
from smart_accounts.contract.steps import EmailOutcome, OpenRequest
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.mail.bounces import return_path
from smart_accounts.settings import Settings
from smart_accounts.store.limits import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from tests.support.fake_temporal import FakeTemporal
from tests.support.keys import KEY

DOMAIN = "bounces.service.example"
TOKEN = "q7w2abcdefghijklmnopqrstuvwxyz56"
MAX_REPORT = 256 * 1024
NOW = datetime.now(UTC)
ACTIVATION = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
SIGNAL = (
    "smart-account-acme.example",
    "run-1",
    Bounce(email=ACTIVATION, answer="550 <ada@acme.example> unknown"),
)


@dataclass
class Hook:
    store: AccountStore
    temporal: FakeTemporal
    http: httpx.AsyncClient

    async def post(self, report: bytes) -> int:
        headers = {"Content-Type": "message/rfc822"}
        answer = await self.http.post("/hooks/bounces", content=report, headers=headers)
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) > 0
        if answer.status_code == 204:
            assert not answer.content
        return answer.status_code

    async def outcome(self) -> EmailOutcome:
        found = await self.store.emails.outcome("run-1", ACTIVATION)
        assert found
        return found


def _client(store: AccountStore, temporal: FakeTemporal, domain: str | None) -> httpx.AsyncClient:
    settings = Settings(
        _env_file=None,
        public_url="https://accounts.example",
        secret_keys=KEY,
        smtp_hostname="127.0.0.1",
        mail_from="accounts@service.example",
        bounce_domain=domain,
    )
    app = create_app(store, temporal, LinkTokens([KEY]), settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inside.example")


@pytest.fixture
async def hook(store: AccountStore, example: dict[str, Any]) -> AsyncIterator[Hook]:
    """The hook of a service whose activation email is out."""
    opened = OpenRequest(
        request_id="run-1",
        request=SmartAccountRequest(**example),
        requested_at=NOW,
        deadline=NOW + timedelta(days=90),
    )
    enough = Limits(open_per_customer=5, starts_per_requester_per_hour=500)
    assert await store.requests.open(opened, (), enough) is None
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    await store.emails.record(
        "run-1", ACTIVATION, "ada@acme.example", "<1@accounts.example>", TOKEN, sent
    )
    temporal = FakeTemporal()
    async with _client(store, temporal, DOMAIN) as http:
        yield Hook(store, temporal, http)


def report(token: str = TOKEN, *, status: str = "5.1.1", action: str = "failed") -> bytes:
    return (
        f"To: {return_path(token, DOMAIN)}\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        "--b\n\nSorry.\n--b\nContent-Type: message/delivery-status\n\n"
        "Reporting-MTA: dns; relay.example\n\n"
        f"Action: {action}\nStatus: {status}\n"
        "Diagnostic-Code: smtp; 550 <ada@acme.example> unknown\n\n--b--\n"
    ).encode()


async def test_a_returned_email_is_told_to_the_request_and_marked(hook: Hook) -> None:
    assert await hook.post(report(TOKEN.upper())) == 204
    assert hook.temporal.bounces == [SIGNAL]
    outcome = await hook.outcome()
    assert outcome.state == EmailState.BOUNCED
    assert outcome.answer == "550 <ada@acme.example> unknown"
    assert outcome.at >= NOW


async def test_the_same_report_again_changes_nothing(hook: Hook) -> None:
    assert await hook.post(report()) == await hook.post(report()) == 204
    assert hook.temporal.bounces == [SIGNAL]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\x00" * 500,
        b"To: someone\n\nHello",
        report(action="delayed", status="4.4.1"),
        report("a" * 32),
        report("short"),
    ],
    ids=["empty", "garbage", "an email", "delayed", "forged", "malformed"],
)
async def test_nothing_else_changes_or_tells_anything(hook: Hook, body: bytes) -> None:
    assert await hook.post(body) == 204
    assert not hook.temporal.bounces
    assert (await hook.outcome()).state == EmailState.SENT


async def test_a_report_on_a_closed_request_is_kept(hook: Hook) -> None:
    hook.temporal.fails = NotFound("closed")
    assert await hook.post(report()) == 204
    assert (await hook.outcome()).state == EmailState.BOUNCED


async def test_a_report_during_an_outage_of_temporal_counts_when_it_comes_again(hook: Hook) -> None:
    hook.temporal.fails = Unavailable("away")
    assert await hook.post(report()) == 503
    assert (await hook.outcome()).state == EmailState.SENT
    hook.temporal.fails = None
    assert await hook.post(report()) == 204
    assert hook.temporal.bounces == [SIGNAL]
    assert (await hook.outcome()).state == EmailState.BOUNCED


@pytest.mark.parametrize("method", ["find_returned", "mark_bounced"])
async def test_a_report_during_an_outage_of_the_database_counts_when_it_comes_again(
    hook: Hook, method: str
) -> None:
    async def fails(*_: Any) -> None:
        raise Unavailable("away")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hook.store.emails, method, fails)
        assert await hook.post(report()) == 503
    assert (await hook.outcome()).state == EmailState.SENT
    assert await hook.post(report()) == 204
    assert SIGNAL in hook.temporal.bounces
    assert (await hook.outcome()).state == EmailState.BOUNCED


async def test_a_report_may_be_so_long_and_no_longer(hook: Hook) -> None:
    room = MAX_REPORT - len(report())
    assert await hook.post(report() + b"x" * (room + 1)) == 413
    assert not hook.temporal.bounces
    assert await hook.post(report() + b"x" * room) == 204
    assert hook.temporal.bounces


async def test_an_endless_report_is_read_no_further_than_the_limit(hook: Hook) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 10 * MAX_REPORT:
            taken += 1024
            yield b"x" * 1024

    answer = await hook.http.post("/hooks/bounces", content=endless())
    assert answer.status_code == 413
    assert taken <= MAX_REPORT + 2048


async def test_a_report_made_to_last_keeps_nobody_waiting(hook: Hook) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    waiting = asyncio.create_task(others())
    assert await hook.post(b"Content-Type: multipart/report" + b";" * 250_000) == 204
    waiting.cancel()
    assert turns > 10


async def test_without_a_domain_for_bounces_there_is_no_hook(hook: Hook) -> None:
    async with _client(hook.store, hook.temporal, None) as http:
        answer = await http.post("/hooks/bounces", content=report())
    assert answer.status_code == 404
    assert not hook.temporal.bounces


async def test_the_log_names_the_request_and_no_address(
    hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "smart_accounts"):
        await hook.post(report())
    assert caplog.messages == ["email activation of request run-1 came back"]


@pytest.mark.parametrize(("status", "code"), [(204, 0), (429, 75), (503, 75)])
async def test_mail_server_keeps_what_was_not_taken(status: int, code: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"--- as it came")
        writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    docs = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()
    [command] = re.findall(r"`(curl .*/hooks/bounces.*?)`", docs)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        script = command.replace("https://…", f"http://127.0.0.1:{port}")
        handing_over = await asyncio.create_subprocess_exec("sh", "-c", script, stdin=PIPE)
        await handing_over.communicate(b"--- as it came")
    assert handing_over.returncode == code
