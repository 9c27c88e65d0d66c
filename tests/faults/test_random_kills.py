"""Many requests while workers and the Temporal server are killed and the mail server misbehaves.

No request is lost, and each ends in the right status. An email is sent twice only if the mail
server's reply was cut off, or if the worker was killed before it recorded the email.
"""

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from random import Random
from typing import Any

import pytest

from smart_accounts.contract.messages import EmailState, SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.temporal.client import RequestClient
from tests.faults.conftest import CommitTraps, RequestFor
from tests.support.programs import Program
from tests.support.service import Service
from tests.support.store import Query


@dataclass(frozen=True)
class Size:
    requests: int
    kills: dict[str, int]
    windows: tuple[int, int]
    """The shortest and the longest acceptance window, in seconds."""


SHORT = Size(12, {"send": 1, "commit": 1, "server": 1}, (6, 10))
FULL = Size(200, {"send": 10, "commit": 5, "server": 3}, (20, 60))


def faults(rng: Random, bad: int, of: int) -> Iterator[bool]:
    """Yield True ``bad`` times in every ``of``, in random order, so that each fault occurs."""
    while True:
        block = [True] * bad + [False] * (of - bad)
        rng.shuffle(block)
        yield from block


async def retry(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat a call until Temporal responds. A later rejection means that it received the first."""
    timed_out = False
    while True:
        try:
            await call()
        except Unavailable:
            timed_out = True
            await asyncio.sleep(0.3)
        except Rejected:
            assert timed_out
            return
        else:
            return


@dataclass(frozen=True)
class Scenario:
    """One request and the seconds until it is started and accepted."""

    request: dict[str, Any]
    start_after: float
    accept_after: float | None

    @classmethod
    def random(cls, number: int, request: dict[str, Any], rng: Random, size: Size) -> "Scenario":
        domain = request["account_domain"]
        request["user_emails"] = [f"user-{n}@{domain}" for n in range(rng.randint(0, 2))]
        window = rng.randint(*size.windows)
        accept_after = None
        if number % 2:
            accept_after = rng.uniform(0, window)
        else:
            request["acceptance_window"] = f"PT{window}S"
        return cls(request, rng.uniform(0, 2), accept_after)

    @property
    def workflow_id(self) -> str:
        return workflow_id(self.request["account_domain"])

    @property
    def end(self) -> Status:
        return Status.LAPSED if self.accept_after is None else Status.ACTIVE

    @property
    def opening_emails(self) -> set[tuple[str, str]]:
        return {
            ("activation", self.request["customer_email"]),
            ("request-received", self.request["requester"]["email"]),
        }

    @property
    def closing_emails(self) -> set[tuple[str, str]]:
        customer, requester = self.request["customer_email"], self.request["requester"]["email"]
        if self.end == Status.LAPSED:
            return {("lapsed", customer), ("lapsed", requester)}
        return {("activated", requester), ("welcome", customer)} | {
            ("access-granted", user) for user in self.request["user_emails"]
        }

    async def play(self, service: Service) -> None:
        await asyncio.sleep(self.start_after)
        requests = RequestClient(service.temporal)
        request = SmartAccountRequest.model_validate(self.request)
        await retry(lambda: requests.start(request))
        if self.accept_after is not None:
            await asyncio.sleep(self.accept_after)
            await retry(lambda: requests.accept(self.workflow_id))


class Killer:
    """Kills workers and the server in random order, and checks that each kill had an effect."""

    def __init__(
        self, service: Service, query: Query, traps: CommitTraps, rng: Random, size: Size
    ) -> None:
        self._service = service
        self._query = query
        self._rng = rng
        self._traps = traps
        self._worker: Program
        self.kills = [kind for kind, number in size.kills.items() for _ in range(number)]
        rng.shuffle(self.kills)
        self.lost: Counter[str] = Counter()
        """Emails by ``Message-ID`` whose worker was killed before it recorded them."""

    async def start(self) -> None:
        await self._start_worker(self.kills)

    async def kill(self, number: int) -> None:
        kind, *others = self.kills[number:]
        if kind == "server":
            return await self._kill_server()
        await (self._kill_during_send() if kind == "send" else self._kill_after_commits())
        return await self._start_worker(others)

    async def _start_worker(self, kills: list[str]) -> None:
        next_kill_of_worker = next((kind for kind in kills if kind != "server"), None)
        if next_kill_of_worker == "commit":
            self._worker = await self._traps.start_worker(self._service)
        else:
            self._worker = await self._service.start_worker()

    async def _kill_server(self) -> None:
        await asyncio.sleep(self._rng.uniform(0, 3))
        await self._service.server.stop(signal.SIGKILL)
        with pytest.raises(Unavailable):
            await self._service.requests().check()
        await asyncio.sleep(self._rng.uniform(0, 4))
        await self._service.server.start()
        assert self._worker.poll() is None

    async def _kill_during_send(self) -> None:
        mail = self._service.mail
        held, lost = mail.held, self.lost.total()
        mail.hold_replies = True
        async with asyncio.timeout(60):
            while mail.held == held:
                await asyncio.sleep(0.01)
        await self._kill_worker()
        assert self.lost.total() > lost

    async def _kill_after_commits(self) -> None:
        self._traps.set("open", "activate", "close")
        await self._traps.wait_until_caught()
        self._traps.set("record")
        stopped = await self._traps.wait_until_caught()
        await self._kill_worker()
        self._traps.remove()
        rows = await self._query("SELECT id, status FROM requests")
        status = {row["id"]: row["status"] for row in rows}
        assert stopped["open"] in status
        assert status[stopped["activate"]] == Status.ACTIVE
        assert status[stopped["close"]] == Status.LAPSED
        mailed = await self._query("SELECT request_id FROM emails")
        assert stopped["record"] in {row["request_id"] for row in mailed}

    async def _kill_worker(self) -> None:
        mail = self._service.mail
        await self._service.kill(self._worker)
        mail.hold_replies = False
        await mail.wait_until_disconnected()
        rows = await self._query("SELECT message_id FROM emails WHERE state <> 'queued'")
        in_ledger = {row["message_id"] for row in rows}
        copies = Counter(map(message_id, mail.emails))
        copies.subtract(map(message_id, mail.unacknowledged))
        self.lost.update(
            {name: copies[name] - self.lost[name] for name in copies if name not in in_ledger}
        )


def message_id(mail: EmailMessage) -> str:
    return str(mail["Message-ID"]).strip()


@pytest.mark.timeout(300)
async def test_random_kills(
    service: Service,
    query_service: Query,
    commit_traps: CommitTraps,
    request_for: RequestFor,
    rng: Random,
    full: bool,
) -> None:
    began = time.monotonic()
    size = FULL if full else SHORT
    scenarios = [
        Scenario.random(number, request_for(f"kills-{number}"), rng, size)
        for number in range(size.requests)
    ]
    killer = Killer(service, query_service, commit_traps, rng, size)
    mail = service.mail
    mail.refuse_next = faults(rng, 6, 20)
    mail.disconnect_next = faults(rng, 1, 20)
    await killer.start()
    async with asyncio.TaskGroup() as running:
        for kill in range(len(killer.kills)):
            first, end = (len(scenarios) * n // len(killer.kills) for n in (kill, kill + 1))
            for scenario in scenarios[first:end]:
                running.create_task(scenario.play(service))
            await killer.kill(kill)

    for scenario in scenarios:
        result = await service.temporal.get_workflow_handle(scenario.workflow_id).result()
        assert result["status"] == scenario.end
    await check_ends(service, query_service, scenarios)
    await check_emails(service, query_service, scenarios, killer.lost)
    assert mail.refused
    assert mail.unacknowledged
    emails = len(set(map(message_id, mail.emails)))
    print(  # noqa: T201 - the figures of the run
        f"{len(scenarios)} requests, kills {size.kills}, {emails} emails, "
        f"{len(mail.emails) - emails} duplicates, {len(mail.unacknowledged)} cut off, "
        f"{killer.lost.total()} lost with their worker, {mail.refused} replies of 451, "
        f"{time.monotonic() - began:.0f} s"
    )


async def check_ends(service: Service, query: Query, scenarios: list[Scenario]) -> None:
    """Check that workflow, request and account agree on the expected end."""
    rows = await query("SELECT r.*, a.state FROM requests r LEFT JOIN accounts a ON a.id = r.id")
    stored = {row["workflow_id"]: row for row in rows}
    assert stored.keys() == {scenario.workflow_id for scenario in scenarios}
    assert len(rows) == len(scenarios)
    users = defaultdict(set)
    for row in await query("SELECT account_id, email FROM account_users"):
        users[row["account_id"]].add(row["email"])
    for scenario in scenarios:
        status = await service.requests().status(scenario.workflow_id)
        row = stored[scenario.workflow_id]
        assert (status.status, row["status"]) == (scenario.end, scenario.end)
        assert status.decided_at
        assert datetime.fromisoformat(row["decided_at"]).replace(tzinfo=UTC) == status.decided_at
        if scenario.end == Status.ACTIVE:
            assert row["state"] == "active"
            members = {scenario.request["customer_email"], *scenario.request["user_emails"]}
            assert users[row["id"]] == members
        else:
            assert row["state"] == "closed"
            assert status.decided_at >= status.deadline
            assert not users[row["id"]]
        assert {email.state for email in status.emails} == {EmailState.SENT}
        sent = {(email.kind.value, email.recipient) for email in status.emails}
        assert scenario.closing_emails <= sent <= scenario.opening_emails | scenario.closing_emails


async def check_emails(
    service: Service, query: Query, scenarios: list[Scenario], lost: Counter[str]
) -> None:
    """Check that every closing email arrived, and that each duplicate has a known reason."""
    ledger = {
        row["message_id"]: row["state"] == EmailState.SENT
        for row in await query("SELECT * FROM emails")
    }
    names = defaultdict(set)
    for mail in service.mail.emails:
        names[mail["X-Smart-Account-Mail"], mail["To"]].add(message_id(mail))
    assert all(len(each) == 1 for each in names.values())
    allowed = set().union(*(each.opening_emails | each.closing_emails for each in scenarios))
    required = set().union(*(each.closing_emails for each in scenarios))
    assert required <= names.keys() <= allowed
    copies = Counter(map(message_id, service.mail.emails))
    reasons = Counter(map(message_id, service.mail.unacknowledged)) + lost
    unexplained = {
        name: (copies[name], reasons[name], ledger.get(name))
        for name in copies.keys() | ledger.keys()
        if copies[name] - reasons[name] != ledger.get(name, False)
    }
    assert not unexplained
