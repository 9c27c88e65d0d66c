"""The command ``admin erase``: crashes at each step, and what it refuses."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.erasure import ErasureActivities
from smart_accounts.admin.erase import erase
from smart_accounts.admin.erased_list import ErasedList
from smart_accounts.admin.eraser import Eraser
from smart_accounts.contract.actions import Withdrawal
from smart_accounts.contract.field_errors import BadInput
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Decision, ErasedRequest
from smart_accounts.errors import BadSetting, NotFound, Rejected, Unavailable
from smart_accounts.settings import PREFIX
from smart_accounts.store.erasure import REASON
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from tests.support.keys import KEY
from tests.support.stored_requests import NOW, decide, everything, open_request
from tests.support.webhooks import add_endpoint

ADA = "ada@acme.example"


class Temporal:
    """Client, histories and erasures in one, which fail at one call."""

    def __init__(self, store: AccountStore, fails_at: int = -1) -> None:
        self.store, self.calls_left = store, fails_at
        self.open, self.histories = {"one"}, {"one"}
        self.ends: dict[str, ErasedRequest | None] = {}
        self.waited = False
        self.is_erasing = True
        self.deleted_at = datetime.now(UTC)

    def _call(self) -> None:
        if self.calls_left == 0:
            raise Unavailable("Temporal does not respond.")
        self.calls_left -= 1

    async def withdraw(self, workflow_id: str, withdrawal: Withdrawal, *, run_id: str) -> None:
        self._call()
        if run_id not in self.open:
            raise NotFound("Too late: the request has ended.")
        self.open.remove(run_id)
        await decide(self.store, run_id, Status.WITHDRAWN, reason=withdrawal.reason)
        self._call()  # the response is lost

    async def are_there(self, request: StoredRequest) -> bool:
        return request.id in self.histories

    async def are_running(self, request: StoredRequest) -> bool:
        self._call()
        return request.id in self.open or not self.waited

    async def wait_for_end(self, request: StoredRequest) -> None:
        self._call()
        self.waited = True

    async def add(self, erased: ErasedRequest) -> None:
        self._call()
        self.ends[erased.request_id] = erased

    async def all(self) -> AsyncIterator[tuple[str, ErasedRequest | None]]:
        for each in self.ends.items():
            yield each

    async def delete(self, request: StoredRequest) -> int:
        self._call()
        assert self.waited, "the last emails may be unsent"
        assert ADA in await everything(self.store), "nothing leads to the history any more"
        if self.is_erasing:
            assert request.id in self.ends, "a restored store would not learn how it ended"
        found = len(self.histories)
        self.histories.discard(request.id)
        self.deleted_at = datetime.now(UTC)
        self._call()
        return found


def eraser(store: AccountStore, temporal: Any, folder: Path) -> Eraser:
    erased = ErasedList(folder / "erased.txt", [KEY])
    return Eraser(store, temporal, temporal, temporal, erased)


async def test_command_can_be_repeated_after_a_failure_at_any_call(
    store: AccountStore, example: dict[str, Any], tmp_path: Path
) -> None:
    await open_request(store, example, "one")
    failures = 0
    temporal = Temporal(store)
    while True:
        temporal.calls_left, temporal.waited = failures, False
        try:
            await eraser(store, temporal, tmp_path).erase(ADA)
        except Unavailable:
            failures += 1
            assert ErasedList(tmp_path / "erased.txt", [KEY]).has(ADA)
        else:
            break
    assert failures >= 4
    assert temporal.histories == set()
    assert ADA not in await everything(store)
    erased_at = ErasedList(tmp_path / "erased.txt", [KEY]).erased_at(ADA)
    assert erased_at
    assert erased_at > temporal.deleted_at, "what arrived meanwhile would come back"
    request = await store.requests.find("one")
    assert request
    assert request.status is Status.WITHDRAWN
    assert temporal.ends["one"]
    assert temporal.ends["one"].decision.status is Status.WITHDRAWN


async def test_request_that_temporal_has_lost_is_left_to_the_sweep(
    store: AccountStore, example: dict[str, Any], tmp_path: Path
) -> None:
    """The cause may be a wrong namespace, so nothing may be taken for deleted."""
    await open_request(store, example, "one")
    temporal = Temporal(store)
    temporal.open.clear()
    with pytest.raises(Rejected, match="Check TEMPORAL_NAMESPACE"):
        await eraser(store, temporal, tmp_path).erase(ADA)
    assert temporal.histories == {"one"}
    request = await store.requests.find("one")
    assert request
    assert (request.status, request.customer_email) == (Status.PENDING, ADA)


async def test_restored_request_is_settled_without_a_history(
    store: AccountStore, example: dict[str, Any], tmp_path: Path
) -> None:
    """Temporal's retention has passed, so that it does not know the end either."""
    await open_request(store, example, "one")
    temporal = Temporal(store)
    temporal.open.clear()
    temporal.histories.clear()
    temporal.waited = True
    with pytest.raises(Rejected, match="let the sweep settle the request"):  # by mistake deleted?
        await eraser(store, temporal, tmp_path).erase(ADA)
    temporal.histories.add("one")  # terminated, perhaps
    with pytest.raises(Rejected, match="let the sweep settle the request"):
        await eraser(store, temporal, tmp_path).erase_listed(dry_run=False)
    temporal.histories.clear()
    await eraser(store, temporal, tmp_path).erase_listed(dry_run=False)
    request = await store.requests.find("one")
    assert request
    assert (request.status, request.reason) == (Status.WITHDRAWN, REASON)
    assert ADA not in await everything(store)
    assert await store.comparison.emails_due() == [], "nobody is told"


def active_when_erased(name: str, closed_at: datetime | None) -> ErasedRequest:
    return ErasedRequest(
        request_id=name,
        account_domain=f"{name}.example",
        decision=Decision(status=Status.ACTIVE, at=NOW, by="customer"),
        closed_at=closed_at,
        link_ordinal=1,
        at=datetime.now(UTC),
    )


async def test_again_restores_ends_and_leaves_what_came_later(
    store: AccountStore, example: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the backup, one request is open and the other one has an active account."""
    users = {"customer_email": "cy@acme.example", "user_emails": [ADA, "bo@acme.example"]}
    for name in ("one", "two"):
        await open_request(
            store,
            example,
            name,
            **users | ({} if name == "one" else {"customer_email": ADA, "user_emails": []}),
        )
    await decide(store, "two", Status.ACTIVE, by=ADA)
    temporal = Temporal(store)
    temporal.open.clear()
    temporal.histories.clear()
    temporal.waited = True
    for name, closed_at in (("one", None), ("two", NOW), ("lost", None)):
        temporal.ends[name] = active_when_erased(name, closed_at)
    await open_request(store, example, "unreadable", customer_email="cy@acme.example")
    temporal.ends |= {"unreadable": None, "unreadable and unknown": None}
    command = eraser(store, temporal, tmp_path)
    command.erased.add([ADA])
    listed_at = command.erased.erased_at(ADA)
    with pytest.raises(Rejected) as problems:
        await command.erase_listed(dry_run=False)
    assert str(problems.value).count("ended, but this cannot be read") == 1
    assert "Lost: the account of lost.example, request lost." in capsys.readouterr().out
    one, two = await store.requests.find("one"), await store.requests.find("two")
    assert one
    assert two
    assert (one.status, one.added_users) == (Status.ACTIVE, ("erased", "bo@acme.example"))
    assert (one.account_state, two.account_state) == ("active", "closed")
    assert (two.closed_at, two.closed_by, two.customer_email) == (NOW, "erased", "erased")
    assert ADA not in await everything(store)
    assert ErasedList(tmp_path / "erased.txt", [KEY]).erased_at(ADA) == listed_at

    temporal.ends.clear()
    await open_request(store, example, "later", customer_email=ADA, requested_at=datetime.now(UTC))
    await command.erase_listed(dry_run=False)
    assert "in the database again: 0." in capsys.readouterr().out
    later = await store.requests.find("later")
    assert later
    assert (later.status, later.customer_email) == (Status.PENDING, ADA)


async def test_purge_continues_after_a_failure(
    store: AccountStore, example: dict[str, Any]
) -> None:
    await open_request(store, example, "one")
    await decide(store, "one", Status.DECLINED)
    temporal = Temporal(store, fails_at=2)
    temporal.waited, temporal.is_erasing = True, False
    activities = ErasureActivities(store, temporal, timedelta(days=1))  # type: ignore[arg-type]  # a fake
    environment = ActivityEnvironment()
    assert (
        await environment.run(activities.purge_ended_requests) == 0
    )  # its emails are not sent yet
    temporal.open.clear()
    with pytest.raises(Unavailable):
        await environment.run(activities.purge_ended_requests)
    assert ADA in await everything(store), "nothing leads to the history any more"
    temporal.calls_left = -1
    assert await environment.run(activities.purge_ended_requests) == 1
    assert temporal.histories == set()
    assert ADA not in await everything(store)
    endpoint = await add_endpoint(store)
    await store.webhooks.ping(endpoint.id, datetime.now(UTC) - timedelta(days=31))
    never = ErasureActivities(store, temporal, None)  # type: ignore[arg-type]  # a fake
    assert await environment.run(never.purge_ended_requests) == 0
    assert await store.webhooks.deliveries(endpoint.id) == [], "old webhooks are always removed"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "is required"),
        ({"email": ADA, "again": True}, "is required"),
        ({"email": "ada"}, "must be one email address"),
        ({"email": "ada@acme.example, bo@acme.example"}, "must be one email address"),
    ],
)
async def test_bad_options_change_nothing(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput) as error:
        await erase.__wrapped__(**options)  # type: ignore[attr-defined]  # functools.wraps sets it
    [field] = error.value.errors
    assert field.field == "email"
    assert problem in field.message


async def test_list_is_required(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no .env file
    settings = {"PUBLIC_URL": "http://127.0.0.1", "SECRET_KEYS": KEY, "SMTP_HOSTNAME": "m.example"}
    for name, value in (settings | {"MAIL_FROM": "a@s.example"}).items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(BadSetting, match="SMART_ACCOUNTS_ERASED_LIST: is required to erase"):
        await erase.__wrapped__(email=ADA)  # type: ignore[attr-defined]  # functools.wraps sets it
    with pytest.raises(BadSetting, match="there is no file"):
        ErasedList(tmp_path / "missing.txt", [KEY]).check_exists()
