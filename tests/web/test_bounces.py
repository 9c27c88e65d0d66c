"""Bounce reports from the operator's mail server, on the real store."""

import asyncio
import logging
import re
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.common import MetricMeter

from smart_accounts.contract.messages import EmailKind, EmailState, SmartAccountRequest
from smart_accounts.contract.steps import Addressee, Bounce, Email, EmailOutcome, OpenRequest
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens, return_path
from smart_accounts.web import bounces
from smart_accounts.web.app import create_app
from tests.support.fake_temporal import FakeTemporal
from tests.support.keys import KEY
from tests.support.ledger import add_email, outcome_of
from tests.support.limits import new_limits
from tests.support.metrics import RecordedMetrics
from tests.support.web_settings import web_settings

DOMAIN = "bounces.service.example"
TOKEN = "q7w2abcdefghijklmnopqrstuvwxyz56"
MAX_REPORT = 256 * 1024
NOW = datetime.now(UTC)
ACTIVATION = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
REPLY = "550 5.1.1 <ada@acme.example> unknown"
SIGNAL = ("smart-account-acme.example", "run-1", Bounce(email=ACTIVATION, answer=REPLY))


@dataclass
class BounceHook:
    store: AccountStore
    temporal: FakeTemporal
    metrics: RecordedMetrics
    http: httpx.AsyncClient

    async def post(self, report: bytes) -> int:
        headers = {"Content-Type": "message/rfc822"}
        response = await self.http.post("/hooks/bounces", content=report, headers=headers)
        if response.status_code == 503:
            assert int(response.headers["Retry-After"]) > 0
            assert "refresh" not in response.headers
        if response.status_code == 204:
            assert not response.content
        return response.status_code

    async def outcome(self) -> EmailOutcome:
        found = await outcome_of(self.store, "run-1", ACTIVATION)
        assert found
        return found


def _client(
    store: AccountStore,
    temporal: FakeTemporal,
    domain: str | None,
    meter: MetricMeter = MetricMeter.noop,
) -> httpx.AsyncClient:
    settings = web_settings("https://accounts.example", bounce_domain=domain)
    app = create_app(store, temporal, LinkTokens([KEY]), settings, meter=meter)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inside.example")


@pytest.fixture
async def hook(
    store: AccountStore, example: dict[str, Any], metrics: RecordedMetrics
) -> AsyncIterator[BounceHook]:
    """The hook of a service that has sent one activation email."""
    opened = OpenRequest(
        request_id="run-1",
        request=SmartAccountRequest(**example),
        requested_at=NOW,
        deadline=NOW + timedelta(days=90),
    )
    limits = new_limits()
    assert (await store.requests.open(opened, (), limits)).refused is None
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    await add_email(store, "run-1", ACTIVATION, sent, token=TOKEN)
    temporal = FakeTemporal()
    async with _client(store, temporal, DOMAIN, metrics.meter) as http:
        yield BounceHook(store, temporal, metrics, http)


def report(
    token: str = TOKEN,
    *,
    status: str = "5.1.1",
    action: str = "failed",
    code: str = "550 <ada@acme.example> unknown",
) -> bytes:
    return (
        f"To: {return_path(token, DOMAIN)}\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
        "--b\n\nSorry.\n--b\nContent-Type: message/delivery-status\n\n"
        "Reporting-MTA: dns; relay.example\n\n"
        f"Action: {action}\nStatus: {status}\n"
        f"Diagnostic-Code: smtp; {code}\n\n--b--\n"
    ).encode()


async def test_bounce_is_signalled_and_recorded(hook: BounceHook) -> None:
    assert await hook.post(report(TOKEN.upper())) == 204
    assert hook.temporal.bounces == [SIGNAL]
    outcome = await hook.outcome()
    assert outcome.state == EmailState.BOUNCED
    assert outcome.answer == REPLY
    assert outcome.at >= NOW
    assert hook.metrics.read() == [("smart_accounts_emails activation bounced", 1)]


async def test_refusal_because_of_us_is_noted_and_alerts_operators(
    hook: BounceHook, caplog: pytest.LogCaptureFixture
) -> None:
    assert await hook.post(report(status="5.7.1")) == 204
    assert not hook.temporal.bounces
    outcome = await hook.outcome()
    assert (outcome.state, outcome.at) == (EmailState.SENT, NOW)
    assert outcome.answer == "550 5.7.1 <ada@acme.example> unknown"
    assert hook.metrics.read() == [("smart_accounts_returned_emails", 1)]
    [line] = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert "email activation of request run-1 was returned because of us (550 5.7.1)" in line
    assert await hook.post(report()) == 204, "a later report may still end the request"
    assert (await hook.outcome()).state == EmailState.BOUNCED


async def test_report_that_cannot_be_read_is_logged_and_counted(
    hook: BounceHook, caplog: pytest.LogCaptureFixture
) -> None:
    assert await hook.post(report(status="unknown", code="no")) == 204
    assert (await hook.outcome()).state == EmailState.SENT
    assert hook.metrics.read() == [("smart_accounts_unreadable_bounces", 1)]
    [line] = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert line.endswith("return path of the email activation of request run-1")


async def test_what_comes_to_an_unknown_return_path_is_not_counted(hook: BounceHook) -> None:
    assert await hook.post(report("a" * 32, status="unknown", code="no")) == 204
    assert not hook.metrics.read()


async def test_second_report_changes_nothing(hook: BounceHook) -> None:
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
async def test_other_bodies_change_nothing(hook: BounceHook, body: bytes) -> None:
    assert await hook.post(body) == 204
    assert not hook.temporal.bounces
    assert (await hook.outcome()).state == EmailState.SENT


async def test_bounce_of_a_closed_request_is_recorded(hook: BounceHook) -> None:
    hook.temporal.error = NotFound("closed")
    assert await hook.post(report()) == 204
    assert (await hook.outcome()).state == EmailState.BOUNCED


async def test_report_counts_when_sent_again_after_a_temporal_outage(hook: BounceHook) -> None:
    hook.temporal.error = Unavailable("down")
    assert await hook.post(report()) == 503
    assert (await hook.outcome()).state == EmailState.SENT
    hook.temporal.error = None
    assert await hook.post(report()) == 204
    assert hook.temporal.bounces == [SIGNAL]
    assert (await hook.outcome()).state == EmailState.BOUNCED


@pytest.mark.parametrize("method", ["find_returned", "mark_bounced"])
async def test_report_counts_when_sent_again_after_a_database_outage(
    hook: BounceHook, method: str
) -> None:
    async def raise_unavailable(*_: Any) -> None:
        raise Unavailable("down")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hook.store.emails, method, raise_unavailable)
        assert await hook.post(report()) == 503
    assert (await hook.outcome()).state == EmailState.SENT
    assert await hook.post(report()) == 204
    assert SIGNAL in hook.temporal.bounces
    assert (await hook.outcome()).state == EmailState.BOUNCED


async def test_largest_report_is_accepted_and_a_larger_one_is_not(hook: BounceHook) -> None:
    padding = MAX_REPORT - len(report())
    assert await hook.post(report() + b"x" * (padding + 1)) == 413
    assert not hook.temporal.bounces
    assert await hook.post(report() + b"x" * padding) == 204
    assert hook.temporal.bounces


async def test_endless_report_is_read_only_up_to_the_limit(hook: BounceHook) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10 * MAX_REPORT:
            sent += 1024
            yield b"x" * 1024

    response = await hook.http.post("/hooks/bounces", content=endless())
    assert response.status_code == 413
    assert sent <= MAX_REPORT + 2048


async def test_report_that_is_slow_to_parse_blocks_nothing_else(
    hook: BounceHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def parse_slowly(_: bytes, __: str) -> None:
        time.sleep(1)

    async def other_work() -> None:
        nonlocal steps
        while True:
            await asyncio.sleep(0.01)
            steps += 1

    monkeypatch.setattr(bounces, "read_bounce", parse_slowly)
    working = asyncio.create_task(other_work())
    assert await hook.post(report()) == 204
    working.cancel()
    assert steps > 10


async def test_no_hook_without_a_bounce_domain(hook: BounceHook) -> None:
    async with _client(hook.store, hook.temporal, None) as http:
        response = await http.post("/hooks/bounces", content=report())
    assert response.status_code == 404
    assert not hook.temporal.bounces


async def test_log_names_the_request_but_no_address(
    hook: BounceHook, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "smart_accounts"):
        await hook.post(report())
    assert caplog.messages == ["email activation of request run-1 bounced"]


@pytest.mark.parametrize(("status", "code"), [(204, 0), (429, 75), (503, 75)])
async def test_mail_server_keeps_a_report_that_was_not_accepted(status: int, code: int) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"--- the report")
        writer.write(f"HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    docs = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()
    [command] = re.findall(r"`(curl .*/hooks/bounces.*?)`", docs)
    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        script = command.replace("https://…", f"http://127.0.0.1:{port}")
        process = await asyncio.create_subprocess_exec("sh", "-c", script, stdin=PIPE)
        await process.communicate(b"--- the report")
    assert process.returncode == code
