"""Erasing a person and purging requests in the store, on both databases."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, Column, Integer, String, event, insert, select, update

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.contract.steps import Addressee, Email, EmailOutcome
from smart_accounts.store import purge, tables
from smart_accounts.store.audit import Action, Actor, Origin, Role
from smart_accounts.store.migrate import migrate
from smart_accounts.store.schema import UtcDateTime
from smart_accounts.store.store import AccountStore
from tests.support.ledger import add_email
from tests.support.stored_requests import ISSUER, NOW, decide, everything, open_request

ADA = "ada@acme.example"
DAY = timedelta(days=1)
# Values of columns that are no text of a person's or a client's choice.
NOT_TEXT = {
    "accounts.id": "one",
    "account_users.account_id": "one",
    "activation_links.request_id": "one",
    "audit_events.request_id": "one",
    "emails.request_id": "one",
    "accounts.state": "closed",
    "announcements.kind": "review-needed",
    "audit_events.action": "accept",
    "audit_events.role": "customer",
    "emails.addressee": "customer",
    "emails.kind": "activation",
    "emails.state": "bounced",
    "idempotency_keys.key": "key",
    "requests.id": "one",
    "requests.signalled": "declined",
    "temporal_namespace.id": "namespace",
    "webhook_deliveries.request_id": "one",
    "webhook_deliveries.state": "pending",
    "webhook_endpoints.state": "enabled",
    "requests.status": "declined",
}


@pytest.fixture
async def store(any_database_url: str) -> AsyncIterator[AccountStore]:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as opened:
        yield opened


def _filled(column: Column[Any]) -> Any:
    """Return a value that holds the address wherever a column can hold it."""
    name = f"{column.table.name}.{column.name}"
    match column.type:
        case _ if name in NOT_TEXT:
            return NOT_TEXT[name]
        case JSON():
            return [f"Dear <Ada+news@ACME.example>, {ADA}"]
        case String():
            return "ADA+x@acme.example" if column.type.length else f"550 <{ADA}>: full"
        case Boolean():
            return False
        case Integer():
            return 1
    assert isinstance(column.type, UtcDateTime)
    return NOW


async def test_no_column_keeps_the_address(store: AccountStore) -> None:
    """A new column is among them, unless it is listed as one that holds no text."""
    async with store.engine.begin() as connection:
        for table in tables.metadata.sorted_tables:
            await connection.execute(
                insert(table).values({column: _filled(column) for column in table.c})
            )
    found = await store.erasure.find(ADA)
    without = {name for name, rows in found.rows.items() if not rows}
    assert without == {"announcements", "temporal_namespace"}, "a table that the test does not fill"
    assert await store.erasure.mailboxes(lambda each: each == ADA) == {ADA}
    await store.erasure.erase(found.person, ["one"], NOW)
    assert "acme.example" not in await everything(store)
    assert not (await store.erasure.find(ADA)).are_there


async def add_requests(store: AccountStore, example: dict[str, Any]) -> None:
    """Store a declined request, an active account, a closed one, and an open request."""
    ends = {"declined": Status.DECLINED, "active": Status.ACTIVE, "closed": Status.ACTIVE}
    for name in (*ends, "open"):
        ada = f"ada@{name}.example"
        await open_request(store, example, name, customer_email=ada)
        customer = Actor(role=Role.CUSTOMER, email=ada)
        origin = Origin(client_address="192.0.2.7", user_agent="Firefox")
        await store.audit.record(Action.ACCEPT, customer, origin, name)
        email = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
        sent = EmailOutcome(state=EmailState.SENT, at=NOW)
        await add_email(store, name, email, sent, recipient=ada, token=name)
        if name in ends:
            reason = "Not us." if name == "declined" else None
            await decide(store, name, ends[name], by=ada, reason=reason)
    requests = tables.requests
    closed = {"closed_at": NOW + 5 * DAY, "close_reason": "Sold.", "closed_by": "opal"}
    async with store.engine.begin() as connection:
        await connection.execute(update(requests).where(requests.c.id == "closed").values(closed))


async def test_ended_requests_are_purged_and_active_accounts_are_not(
    store: AccountStore, example: dict[str, Any]
) -> None:
    await add_requests(store, example)
    assert await store.purge.ended(NOW, []) == []
    assert [each.id for each in await store.purge.ended(NOW + 4 * DAY, [])] == ["declined"]
    later = NOW + 6 * DAY
    ended = await store.purge.ended(later, [])
    assert {each.id for each in ended} == {"declined", "closed"}
    assert [each.id for each in await store.purge.ended(later, ["closed"])] == ["declined"]
    await store.purge.purge(ended, later)
    await store.purge.remove_old(later)
    assert await store.purge.ended(later, []) == []
    rows = await everything(store)
    for personal in ("ada@declined", "ada@closed", "not us.", "sold.", "opal"):
        assert personal not in rows
    assert len(await store.audit.of_request("active")) == 1
    assert len(await store.emails.of_request("open")) == 1
    purged = await store.requests.find("declined")
    assert purged
    assert (purged.status, purged.decided_at) == (Status.DECLINED, NOW)
    assert purged.account_domain == "declined.example"
    assert [each.id async for each in store.erasure.erased_requests()] == ["closed", "declined"]


async def test_rejection_without_a_time_is_purged(
    store: AccountStore, example: dict[str, Any]
) -> None:
    """Earlier releases stored no time of a rejection."""
    for name in ("rejected", "open"):
        await open_request(store, example, name)
    requests = tables.requests
    rejected = update(requests).where(requests.c.id == "rejected").values(status=Status.REJECTED)
    async with store.engine.begin() as connection:
        await connection.execute(rejected)
    assert await store.purge.ended(NOW, []) == []
    [ended] = await store.purge.ended(NOW + DAY, [])
    assert (ended.id, ended.decided_at) == ("rejected", None)
    await store.purge.purge([ended], NOW + DAY)
    assert await store.purge.ended(NOW + DAY, []) == []


async def test_partners_without_anything_else_are_purged(
    store: AccountStore, example: dict[str, Any]
) -> None:
    await open_request(store, example, "one")
    for subject in ("pat", "gone"):
        person = Identity(ISSUER, subject)
        await store.adoption.claim_address(f"{subject}@partner.example", person, NOW)
        await store.partners.keep_company(ISSUER, subject, "Partner Ltd")
    later = datetime.now(UTC) + DAY
    await store.purge.remove_old(NOW - DAY)
    assert "'gone'" in await everything(store), "they are too new"
    await store.purge.remove_old(later)
    rows = await everything(store)
    assert "gone" not in rows
    assert await store.partners.company_of(ISSUER, "pat") == "Partner Ltd"
    assert "pat@partner.example', '" in rows
    await decide(store, "one", Status.DECLINED)
    await store.purge.purge(await store.purge.ended(later, []), later)
    await store.purge.remove_old(later)
    assert "pat" not in await everything(store)


async def test_search_for_old_events_locks_out_no_writer(
    store: AccountStore, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "EVENTS_AT_ONCE", 2)
    deletes: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("DELETE FROM audit_events"):
            deletes.append(statement)

    event.listen(store.engine.sync_engine, "before_cursor_execute", note)
    await open_request(store, example, "one")
    customer = Actor(role=Role.CUSTOMER, email=ADA)
    origin = Origin(client_address="192.0.2.7", user_agent="Firefox")
    await store.audit.record(Action.ACCEPT, customer, origin, "one")
    await store.purge.remove_old(datetime.now(UTC) + DAY)
    assert deletes == []
    for name in ("gone", None, "lost"):
        await store.audit.record(Action.ACCEPT, customer, origin, name)
    await store.purge.remove_old(datetime.now(UTC) - DAY)
    assert deletes == [], "they are too new"
    await store.purge.remove_old(datetime.now(UTC) + DAY)
    assert len(deletes) == 2
    assert all("WHERE audit_events.id IN" in each for each in deletes)
    async with store.engine.connect() as connection:
        left = await connection.scalars(select(tables.audit_events.c.request_id))
        assert left.all() == ["one"]
        assert len((await connection.execute(select(tables.people))).all()) == 1
