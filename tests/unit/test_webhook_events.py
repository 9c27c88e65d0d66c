"""Webhook events in the store: which change writes which event."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.formats.json import JSONFormat
from sqlalchemy import event

from smart_accounts.contract.actions import Actor, Closing, Role
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.contract.steps import (
    Addressee,
    Approve,
    CloseAccount,
    Decision,
    Email,
    EmailOutcome,
    IssueLink,
    RequestRecord,
)
from smart_accounts.store.records import ReturnedEmail
from smart_accounts.store.store import AccountStore
from tests.support.ledger import add_email
from tests.support.partners import ISSUER, KIM, OPERATOR
from tests.support.stored_requests import LIMITS, NOW, decide, open_request
from tests.support.webhooks import add_endpoint, opening, request_for, types, written

ACTIVATION = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
BOUNCED = EmailOutcome(state=EmailState.BOUNCED, at=NOW, answer="550 5.1.1 No such user")
OPAL = Actor(role=Role.OPERATOR, subject="opal")


async def bounce(store: AccountStore, request_id: str, email: Email = ACTIVATION) -> None:
    returned = ReturnedEmail(workflow_id="", request_id=request_id, email=email)
    await store.emails.mark_bounced(returned, BOUNCED)


async def replace_approver(
    store: AccountStore, example: dict[str, Any], name: str, ordinal: int = 2
) -> None:
    request = request_for(example, name, customer_email="cy@acme.example")
    link = IssueLink(request_id=name, request=request, ordinal=ordinal, at=NOW)
    await store.requests.issue_link(link, (), LIMITS)


async def test_each_change_is_one_event_for_each_subscriber(
    store: AccountStore, example: dict[str, Any]
) -> None:
    """Each step is done twice, as an activity is that runs again after its commit."""
    own = await add_endpoint(store)
    everyones = await add_endpoint(store, OPERATOR, for_all_requests=True)
    closing = Closing(account_domain="one.example", reason="Sold.", by=OPAL)
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    for _ in range(2):
        await open_request(store, example, "one")
    for _ in range(2):
        await replace_approver(store, example, "one")
    await replace_approver(store, example, "one", ordinal=3)  # only the link is new
    await add_email(store, "one", ACTIVATION, sent)
    for _ in range(2):
        await bounce(store, "one")
    for _ in range(2):
        await decide(store, "one", Status.ACTIVE, by="cy@acme.example")
        await decide(store, "one", Status.LAPSED)
    for _ in range(2):
        close = CloseAccount(request_id="one", closing=closing, at=NOW)
        await store.requests.close_account(close)
    events = await written(store, own)
    assert [(each.type, each.sequence) for each in events] == [
        ("request.pending", 1),
        ("request.approver_replaced", 2),
        ("email.bounced", 3),
        ("request.active", 4),
        ("account.closed", 5),
    ]
    others = await written(store, everyones)
    assert [(each.event_id, each.body) for each in events] == [
        (each.event_id, each.body) for each in others
    ]
    assert len({each.event_id for each in events}) == 5
    assert len({each.id for each in (*events, *others)}) == 10
    shown = [json.loads(each.body)["data"] for each in events]
    assert [each["sequence"] for each in shown] == [1, 2, 3, 4, 5]
    assert [each["status"] for each in shown] == ["pending"] * 3 + ["active"] * 2
    assert [each["customer_email"] for each in shown][:2] == ["ada@acme.example", "cy@acme.example"]
    assert [each["emails"][0]["state"] for each in shown[2:]] == ["bounced"] * 3
    assert [each["account"]["state"] for each in shown[3:]] == ["active", "closed"]


@pytest.mark.parametrize(
    "status",
    [Status.DECLINED, Status.LAPSED, Status.WITHDRAWN, Status.UNDELIVERABLE, Status.REJECTED],
)
async def test_review_and_each_end_are_events(
    store: AccountStore, example: dict[str, Any], status: Status
) -> None:
    endpoint = await add_endpoint(store)
    await store.requests.open(opening(example, "one"), ("Looks odd.",), LIMITS)
    for _ in range(2):
        await store.requests.approve(Approve(request_id="one", at=NOW))
    for _ in range(2):
        await decide(store, "one", status)
    assert await types(store, endpoint) == [
        "request.in_review",
        "request.pending",
        f"request.{status}",
    ]


async def test_rejected_start_and_terminated_run_are_events(
    store: AccountStore, example: dict[str, Any]
) -> None:
    endpoint = await add_endpoint(store)
    await store.requests.open(opening(example, "old", domain="acme"), (), LIMITS)
    later = NOW + timedelta(hours=1)
    await store.requests.open(opening(example, "new", later, domain="acme"), (), LIMITS)
    await decide(store, "new", Status.ACTIVE)
    await store.requests.open(opening(example, "taken", later, domain="acme"), (), LIMITS)
    await open_request(store, example, "lost")
    known = await store.comparison.find("lost")
    assert known
    assert await store.comparison.settle(known, NOW)
    assert [(each.request_id, each.type) for each in await written(store, endpoint)] == [
        ("lost", "request.pending"),
        ("lost", "request.withdrawn"),
        ("new", "request.pending"),
        ("new", "request.active"),
        ("old", "request.pending"),
        ("old", "request.withdrawn"),
        ("taken", "request.rejected"),
    ]


async def test_body_is_a_cloud_event(database_url: str, example: dict[str, Any]) -> None:
    async with AccountStore.open(database_url, source="https://accounts.example") as store:
        endpoint = await add_endpoint(store)
        await open_request(store, example, "one", account_name="Ünï \u05d0\u05d1 \U0001f600 \\\"'")
        [delivery] = await written(store, endpoint)
    assert delivery.body.isascii()
    told = JSONFormat().read(None, delivery.body)
    attributes = told.get_attributes()
    assert attributes == {
        "specversion": "1.0",
        "id": delivery.event_id,
        "source": "https://accounts.example",
        "type": "request.pending",
        "subject": "one",
        "time": NOW,
        "datacontenttype": "application/json",
    }
    data = told.get_data()
    assert isinstance(data, dict)
    assert data["account_name"] == "Ünï \u05d0\u05d1 \U0001f600 \\\"'"


@contextmanager
def statements(store: AccountStore) -> Iterator[list[str]]:
    """Collect the statements that the store executes."""
    collected: list[str] = []

    def collect(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        collected.append(statement)

    event.listen(store.engine.sync_engine, "before_cursor_execute", collect)
    try:
        yield collected
    finally:
        event.remove(store.engine.sync_engine, "before_cursor_execute", collect)


async def test_change_without_a_subscriber_costs_one_statement(
    store: AccountStore, example: dict[str, Any]
) -> None:
    await add_endpoint(store, KIM)
    changes = {
        "open": store.requests.open(opening(example, "one"), ("Looks odd.",), LIMITS),
        "approve": store.requests.approve(Approve(request_id="one", at=NOW)),
        "replace the approver": replace_approver(store, example, "one"),
        "activate": decide(store, "one", Status.ACTIVE),
    }
    counts = {}
    for name, change in changes.items():
        with statements(store) as made:
            await change
        counts[name] = sum("webhook" in each for each in made)
    assert counts == dict.fromkeys(changes, 1)


def rebuilt(example: dict[str, Any], **more: Any) -> RequestRecord:
    values = {"request": request_for(example, "one"), "status": Status.PENDING, "link_ordinal": 1}
    return RequestRecord(request_id="one", requested_at=NOW, **values | more)


REBUILDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "open": ({}, ["request.pending"]),
    "in review": ({"needs_review": True, "link_ordinal": 0}, ["request.in_review"]),
    "decided": (
        {"decision": Decision(status=Status.DECLINED, at=NOW - timedelta(days=9))},
        ["request.declined"],
    ),
}


@pytest.mark.parametrize(("more", "events"), REBUILDS.values(), ids=REBUILDS)
async def test_rebuilt_request_is_an_event(
    store: AccountStore, example: dict[str, Any], more: dict[str, Any], events: list[str]
) -> None:
    endpoint = await add_endpoint(store)
    record = rebuilt(example, **more)
    await rebuild(store, record)
    await rebuild(store, record)
    assert await types(store, endpoint) == events
    [delivery] = await written(store, endpoint)
    # Otherwise, what the database learns late would be given up before the first try.
    assert delivery.try_until > datetime.now(UTC) + timedelta(days=2)


async def rebuild(store: AccountStore, record: RequestRecord) -> None:
    owner = Identity(ISSUER, "pat")
    await store.rebuilding.rebuild(
        record, owner=owner, idempotency_key=None, run_id="one", link_hashes=["a" * 64, "b" * 64]
    )


async def test_what_a_restored_store_learns_is_an_event(
    store: AccountStore, example: dict[str, Any]
) -> None:
    endpoint = await add_endpoint(store)
    await store.requests.open(opening(example, "one"), ("Looks odd.",), LIMITS)
    approved = {"needs_review": True, "approved_at": NOW}
    await rebuild(store, rebuilt(example, **approved))
    cy = request_for(example, "one", customer_email="cy@acme.example")
    await rebuild(store, rebuilt(example, **approved, request=cy, link_ordinal=2))
    await rebuild(store, rebuilt(example, **approved, request=cy, link_ordinal=3))  # sent again
    known = await store.comparison.find("one")
    assert known
    assert await store.comparison.settle(known, NOW)
    active = Decision(status=Status.ACTIVE, at=NOW)
    await rebuild(store, rebuilt(example, **approved, request=cy, link_ordinal=3, decision=active))
    assert [(each.type, each.sequence) for each in await written(store, endpoint)] == [
        ("request.in_review", 1),
        ("request.pending", 2),
        ("request.approver_replaced", 3),
        ("request.withdrawn", 4),
        ("request.active", 5),
    ]
