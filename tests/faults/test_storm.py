"""Many requests under kills of every part, with a mail server that is no friend either.

Nothing is lost, nothing ends wrong, and each copy of an email too many has its reason: its answer
was cut off, or its worker was killed before the ledger had it.
"""

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from smart_accounts.contract.messages import EmailState, SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.temporal.client import RequestClient
from tests.support.programs import Program


@dataclass(frozen=True)
class Size:
    requests: int
    kills: dict[str, int]
    windows: tuple[int, int]
    """The shortest and the longest acceptance window, in seconds."""


SHORT = Size(24, {"send": 2, "commit": 1, "server": 1}, (9, 14))
FULL = Size(200, {"send": 10, "commit": 5, "server": 3}, (20, 60))


def share(chance: Random, bad: int, of: int) -> Iterator[bool]:
    """So many of every so many, in an order of chance: none of the faults is left out."""
    while True:
        block = [True] * bad + [False] * (of - bad)
        chance.shuffle(block)
        yield from block


async def insist(call: Callable[[], Awaitable[object]]) -> None:
    """Until there is an answer; a no after silence says that an earlier try was heard."""
    unheard = False
    while True:
        try:
            await call()
        except Unavailable:
            unheard = True
            await asyncio.sleep(0.3)
        except Rejected:
            assert unheard
            return
        else:
            return


@dataclass(frozen=True)
class Life:
    """One request, and how many seconds its people take."""

    request: dict[str, Any]
    starts_after: float
    accepts_after: float | None

    @classmethod
    def of(cls, number: int, wish: Any, chance: Random, size: Size) -> "Life":
        request = wish(f"storm-{number}")
        domain = request["account_domain"]
        request["user_emails"] = [f"user-{n}@{domain}" for n in range(chance.randint(0, 2))]
        window = chance.randint(*size.windows)
        accepts_after = None
        if number % 2:
            accepts_after = chance.uniform(0, window)
        else:
            request["acceptance_window"] = f"PT{window}S"
        return cls(request, chance.uniform(0, 2), accepts_after)

    @property
    def workflow_id(self) -> str:
        return workflow_id(self.request["account_domain"])

    @property
    def end(self) -> Status:
        return Status.LAPSED if self.accepts_after is None else Status.ACTIVE

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

    async def live(self, service: Any) -> None:
        await asyncio.sleep(self.starts_after)
        requests = RequestClient(service.client)
        wanted = SmartAccountRequest.model_validate(self.request)
        await insist(lambda: requests.start(wanted))
        if self.accepts_after is not None:
            await asyncio.sleep(self.accepts_after)
            await insist(lambda: requests.accept(self.workflow_id))


class Storm:
    """The kills, each of which asserts that it hit something."""

    def __init__(
        self, service: Any, ask: Any, commits: Any, chance: Random, kills: dict[str, int]
    ) -> None:
        self._service = service
        self._ask = ask
        self._chance = chance
        self._commits = commits
        self._worker: Program
        self.kills = [kind for kind, number in kills.items() for _ in range(number)]
        chance.shuffle(self.kills)
        self.lost: Counter[str] = Counter()
        """By ``Message-ID``: the copies whose worker died before the ledger had them."""

    async def rise(self) -> None:
        await self._start_worker(self.kills)

    async def strike(self, number: int) -> None:
        kind, *others = self.kills[number:]
        if kind == "server":
            return await self._kill_server()
        await (self._kill_at_a_send() if kind == "send" else self._kill_after_commits())
        return await self._start_worker(others)

    async def _start_worker(self, kills: list[str]) -> None:
        next_of_a_worker = next((kind for kind in kills if kind != "server"), None)
        if next_of_a_worker == "commit":
            self._worker = await self._commits.worker(self._service)
        else:
            self._worker = await self._service.worker()

    async def _kill_server(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, 3))
        await self._service.server.down(signal.SIGKILL)
        with pytest.raises(Unavailable):
            await self._service.requests().check()
        await asyncio.sleep(self._chance.uniform(0, 4))
        await self._service.server.up()
        assert self._worker.poll() is None

    async def _kill_at_a_send(self) -> None:
        mail = self._service.mail
        held, lost = mail.held, self.lost.total()
        mail.holds = True
        async with asyncio.timeout(60):
            while mail.held == held:
                await asyncio.sleep(0.01)
        await self._kill_worker()
        assert self.lost.total() > lost

    async def _kill_after_commits(self) -> None:
        self._commits.arm("open_request", "activate", "close")
        await self._commits.stopped()
        self._commits.arm("record")
        stopped = await self._commits.stopped()
        await self._kill_worker()
        self._commits.disarm()
        rows = await self._ask("SELECT id, status FROM requests")
        status = {row["id"]: row["status"] for row in rows}
        assert stopped["open_request"] in status
        assert status[stopped["activate"]] == Status.ACTIVE
        assert status[stopped["close"]] == Status.LAPSED
        mailed = await self._ask("SELECT request_id FROM emails")
        assert stopped["record"] in {row["request_id"] for row in mailed}

    async def _kill_worker(self) -> None:
        mail = self._service.mail
        await self._service.kill(self._worker)
        mail.holds = False
        await mail.hung_up()
        rows = await self._ask("SELECT message_id FROM emails WHERE state <> 'queued'")
        in_ledger = {row["message_id"] for row in rows}
        copies = Counter(map(named, mail.mails))
        copies.subtract(map(named, mail.cut))
        self.lost.update(
            {name: copies[name] - self.lost[name] for name in copies if name not in in_ledger}
        )


def named(mail: Any) -> str:
    return str(mail["Message-ID"]).strip()


@pytest.mark.timeout(300)
async def test_storm(
    service: Any, ask_service: Any, commits: Any, wish: Any, chance: Random, full: bool
) -> None:
    began = time.monotonic()
    size = FULL if full else SHORT
    lives = [Life.of(number, wish, chance, size) for number in range(size.requests)]
    storm = Storm(service, ask_service, commits, chance, size.kills)
    service.mail.turns_away = share(chance, 6, 20)
    service.mail.cuts = share(chance, 1, 20)
    strikes = len(storm.kills)
    await storm.rise()
    async with asyncio.TaskGroup() as living:
        for strike in range(strikes):
            first, end = (len(lives) * n // strikes for n in (strike, strike + 1))
            for life in lives[first:end]:
                living.create_task(life.live(service))
            await storm.strike(strike)

    for life in lives:
        result = await service.client.get_workflow_handle(life.workflow_id).result()
        assert result["status"] == life.end
    await check_ends(service, ask_service, lives)
    await check_emails(service, ask_service, lives, storm.lost)
    mail = service.mail
    assert mail.turned_away
    assert mail.cut
    names = set(map(named, mail.mails))
    print(  # noqa: T201 - the figures
        f"{len(lives)} requests, kills {size.kills}, {len(names)} emails, "
        f"{len(mail.mails) - len(names)} copies too many, {len(mail.cut)} cut off, "
        f"{storm.lost.total()} lost with their worker, {mail.turned_away} answered 451, "
        f"{time.monotonic() - began:.0f} s"
    )


async def check_ends(service: Any, ask: Any, lives: list[Life]) -> None:
    """Workflow, request and account agree, and each says what it must."""
    rows = await ask("SELECT r.*, a.state FROM requests r LEFT JOIN accounts a ON a.id = r.id")
    stored = {row["workflow_id"]: row for row in rows}
    assert stored.keys() == {life.workflow_id for life in lives}
    assert len(rows) == len(lives)
    users = defaultdict(set)
    for row in await ask("SELECT account_id, email FROM account_users"):
        users[row["account_id"]].add(row["email"])
    for life in lives:
        status = await service.requests().status(life.workflow_id)
        row = stored[life.workflow_id]
        assert (status.status, row["status"]) == (life.end, life.end)
        assert datetime.fromisoformat(row["decided_at"]).replace(tzinfo=UTC) == status.decided_at
        if life.end == Status.ACTIVE:
            assert row["state"] == "active"
            members = {life.request["customer_email"], *life.request["user_emails"]}
            assert users[row["id"]] == members
        else:
            assert row["state"] == "closed"
            assert status.decided_at >= status.deadline
            assert not users[row["id"]]
        assert {mail.state for mail in status.emails} == {EmailState.SENT}
        sent = {(mail.kind, mail.recipient) for mail in status.emails}
        assert life.closing_emails <= sent <= life.opening_emails | life.closing_emails


async def check_emails(service: Any, ask: Any, lives: list[Life], lost: Counter[str]) -> None:
    ledger = {
        row["message_id"]: row["state"] == EmailState.SENT
        for row in await ask("SELECT * FROM emails")
    }
    names = defaultdict(set)
    for mail in service.mail.mails:
        names[mail["X-Smart-Account-Mail"], mail["To"]].add(named(mail))
    assert all(len(each) == 1 for each in names.values())
    may_come = set().union(*(life.opening_emails | life.closing_emails for life in lives))
    must_come = set().union(*(life.closing_emails for life in lives))
    assert must_come <= names.keys() <= may_come
    copies = Counter(map(named, service.mail.mails))
    reasons = Counter(map(named, service.mail.cut)) + lost
    unexplained = {
        name: (copies[name], reasons[name], ledger.get(name))
        for name in copies.keys() | ledger.keys()
        if copies[name] - reasons[name] != ledger.get(name, False)
    }
    assert not unexplained
