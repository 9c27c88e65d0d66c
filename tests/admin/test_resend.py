"""Sending activation emails again for many requests: which ones, and what became of each."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.admin import resend
from smart_accounts.admin.resend import Outcome, Resending, Result
from smart_accounts.contract.actions import Actor, Role
from smart_accounts.contract.messages import EmailKind, EmailState, SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.contract.steps import (
    Addressee,
    Decision,
    Email,
    EmailOutcome,
    IssueLink,
    OpenRequest,
    RecordDecision,
)
from smart_accounts.errors import NoResponse, NotFound, Rejected, Unavailable
from smart_accounts.store import audit
from smart_accounts.store.store import AccountStore
from tests.support.fake_temporal import FakeTemporal
from tests.support.faulty_store import FaultyStore
from tests.support.ledger import add_email
from tests.support.limits import new_limits

LIMITS = new_limits()
ODA = Actor(role=Role.OPERATOR, subject="Oda Ray")
RETURNED = "550 5.7.1 blocked by policy"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[FaultyStore]:
    async with FaultyStore.open(database_url) as opened:
        yield opened


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a run, which take no time here."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(resend, "sleep", sleep)
    return found


def now(**ago: float) -> datetime:
    return datetime.now(UTC) - timedelta(**ago)


def request_for(example: dict[str, Any], name: str) -> SmartAccountRequest:
    changes = {"account_domain": f"{name}.example", "customer_email": f"ada@{name}.example"}
    return SmartAccountRequest.model_validate(example | changes)


async def open_request(store: AccountStore, example: dict[str, Any], name: str) -> str:
    """Store a request with this id for the domain ``name.example``. Return its workflow id."""
    request = request_for(example, name)
    opening = OpenRequest(
        request_id=name,
        request=request,
        requested_at=now(days=2),
        deadline=now(days=-88),
    )
    await store.requests.open(opening, (), LIMITS)
    await email_sent(store, name, 1, now(days=2))
    return workflow_id(request.account_domain)


async def new_link(store: AccountStore, example: dict[str, Any], name: str) -> None:
    request = request_for(example, name)
    link = IssueLink(request_id=name, request=request, ordinal=2, at=now())
    await store.requests.issue_link(link, (), LIMITS)


async def email_sent(
    store: AccountStore, name: str, link: int, at: datetime, answer: str | None = None
) -> None:
    email = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER, number=link)
    outcome = EmailOutcome(state=EmailState.SENT, at=at, answer=answer)
    await add_email(store, name, email, outcome)


async def run(
    temporal: FakeTemporal, store: AccountStore, *workflow_ids: str, dry_run: bool = False
) -> list[Outcome]:
    resending = Resending(temporal, store, ODA, lambda: None, dry_run=dry_run)
    return await resending.run(workflow_ids)


def results(outcomes: list[Outcome]) -> list[Result]:
    return [outcome.result for outcome in outcomes]


async def test_resent_as_an_operator_with_a_pause(
    store: FaultyStore, example: dict[str, Any], pauses: list[float]
) -> None:
    temporal = FakeTemporal()
    workflow_ids = [await open_request(store, example, name) for name in ("one", "two")]
    assert results(await run(temporal, store, *workflow_ids)) == [Result.RESENT] * 2
    assert temporal.actions == [
        ("resend", None, workflow_ids[0], "one"),
        ("resend", None, workflow_ids[1], "two"),
    ]
    assert temporal.actors == [ODA, ODA]
    assert pauses == [0.5, 0.5]
    [event] = await store.audit.of_request("one")
    assert (event.action, event.role, event.email, event.user_agent) == (
        audit.Action.RESEND,
        audit.Role.OPERATOR,
        "Oda Ray",
        "python -m smart_accounts.admin resend",
    )


async def test_dry_run_changes_nothing(
    store: FaultyStore, example: dict[str, Any], pauses: list[float]
) -> None:
    temporal = FakeTemporal()
    [outcome] = await run(temporal, store, await open_request(store, example, "one"), dry_run=True)
    assert (outcome.result, outcome.message) == (Result.TO_RESEND, "To ada@one.example.")
    assert temporal.actions == []
    assert await store.audit.of_request("one") == ()
    assert pauses == []


@pytest.mark.parametrize(
    ("error", "result", "events"),
    [
        (Rejected("Too many activation emails in a day."), Result.REJECTED, 0),
        (NotFound("Too late: the request is already active."), Result.ENDED, 0),
        (NoResponse("No response yet."), Result.NO_RESPONSE, 1),
    ],
)
async def test_reason_of_each_failure(
    store: FaultyStore,
    example: dict[str, Any],
    pauses: list[float],
    error: Exception,
    result: Result,
    events: int,
) -> None:
    temporal = FakeTemporal()
    temporal.action_error = error
    [outcome] = await run(temporal, store, await open_request(store, example, "one"))
    assert (outcome.result, outcome.message) == (result, str(error))
    assert len(await store.audit.of_request("one")) == events


async def test_request_that_ended_or_is_unknown(
    store: FaultyStore, example: dict[str, Any], pauses: list[float]
) -> None:
    temporal, ended = FakeTemporal(), await open_request(store, example, "one")
    declined = Decision(status=Status.DECLINED, at=now())
    await store.requests.close(RecordDecision(request_id="one", decision=declined))
    outcomes = await run(temporal, store, ended, "smart-account-unknown.example")
    assert results(outcomes) == [Result.ENDED] * 2
    assert temporal.actions == []


@pytest.mark.parametrize(
    ("link", "minutes_ago", "answer", "result"),
    [
        (2, 30, None, Result.SKIPPED),
        (2, 61, None, Result.RESENT),
        (2, 30, RETURNED, Result.RESENT),
        (1, 30, None, Result.RESENT),
    ],
)
async def test_repeat_within_the_hour_sends_nothing(
    store: FaultyStore,
    example: dict[str, Any],
    pauses: list[float],
    link: int,
    minutes_ago: int,
    answer: str | None,
    result: Result,
) -> None:
    one = await open_request(store, example, "one")
    if link == 2:
        await new_link(store, example, "one")
    await email_sent(store, "one", link, now(minutes=minutes_ago), answer)
    assert results(await run(FakeTemporal(), store, one)) == [result]


async def test_run_stops_if_no_worker_responds(
    store: FaultyStore, example: dict[str, Any], pauses: list[float]
) -> None:
    temporal = FakeTemporal()
    temporal.action_error = NoResponse("No response yet.")
    names = ("one", "two", "three", "four", "five")
    workflow_ids = [await open_request(store, example, name) for name in names]
    outcomes = await run(temporal, store, *workflow_ids)
    assert results(outcomes) == [Result.NO_RESPONSE] * 3 + [Result.NOT_TRIED] * 2


async def test_run_stops_if_temporal_is_down(
    store: FaultyStore, example: dict[str, Any], pauses: list[float]
) -> None:
    temporal = FakeTemporal()
    temporal.action_error = Unavailable("Temporal does not respond.")
    workflow_ids = [await open_request(store, example, name) for name in ("one", "two")]
    assert results(await run(temporal, store, *workflow_ids)) == [Result.NOT_TRIED] * 2


async def test_missing_event_of_the_audit_trail_is_reported(
    store: FaultyStore, example: dict[str, Any], pauses: list[float]
) -> None:
    store.audit.error = Unavailable("The database does not respond.")
    [outcome] = await run(FakeTemporal(), store, await open_request(store, example, "one"))
    assert outcome.result is Result.RESENT
    assert "The audit trail lacks this" in outcome.message


async def test_only_the_newest_activation_email_of_a_pending_request_counts_as_returned(
    store: FaultyStore, example: dict[str, Any]
) -> None:
    returned = await open_request(store, example, "returned")
    await email_sent(store, "returned", 1, now(days=1), RETURNED)
    await open_request(store, example, "arrived")
    await open_request(store, example, "replaced")
    await email_sent(store, "replaced", 1, now(days=1), RETURNED)
    await new_link(store, example, "replaced")
    await email_sent(store, "replaced", 2, now())
    await open_request(store, example, "ended")
    await email_sent(store, "ended", 1, now(days=1), RETURNED)
    declined = Decision(status=Status.DECLINED, at=now())
    await store.requests.close(RecordDecision(request_id="ended", decision=declined))
    assert await store.emails.find_returned_activations() == [returned]
