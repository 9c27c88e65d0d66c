"""Changes of one request at the same moment on PostgreSQL. SQLite has one writer at a time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
from sqlalchemy import Update, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.steps import Checked, IssueLink, RequestRecord
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.limits import lock_requester
from smart_accounts.store.migrate import migrate
from smart_accounts.store.rebuilding import Rebuilt
from smart_accounts.store.records import ERASED, StoredRequest
from smart_accounts.store.search import add_missing_texts
from smart_accounts.store.store import AccountStore
from tests.support.postgres import Postgres
from tests.support.stored_requests import LIMITS, NOW, decide, everything, open_request
from tests.support.webhooks import add_endpoint

DECLINED = update(tables.requests).values(status=Status.DECLINED, decided_at=NOW)
NEWER_LINK = update(tables.requests).values(link_ordinal=3)


@pytest.fixture
async def store(postgres: Postgres, example: dict[str, Any]) -> AsyncIterator[AccountStore]:
    """The store with the open request ``one``."""
    await migrate(url := postgres.new_database())
    async with AccountStore.open(url) as opened:
        await open_request(opened, example, "one")
        yield opened


async def run_during(store: AccountStore, change: Update, action: Coroutine[Any, Any, Any]) -> Any:
    """Run an action while another transaction makes a change, and wait for its result."""
    async with transaction(store.engine, writes=True) as connection:
        await connection.execute(change)
        running = asyncio.create_task(action)
        while not running.done() and not await is_waiting(connection):
            await asyncio.sleep(0.01)
    return await running


async def is_waiting(connection: AsyncConnection) -> bool:
    return bool(await connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


async def find(store: AccountStore) -> StoredRequest:
    request = await store.requests.find("one")
    assert request
    return request


def with_new_approver(example: dict[str, Any]) -> SmartAccountRequest:
    changes = {"account_domain": "one.example", "customer_email": "eve@one.example"}
    return SmartAccountRequest.model_validate(example | changes)


async def test_rebuilding_does_not_reopen_a_request(
    store: AccountStore, example: dict[str, Any]
) -> None:
    record = RequestRecord(
        request_id="one",
        request=with_new_approver(example),
        requested_at=NOW,
        status=Status.PENDING,
        link_ordinal=2,
    )
    rebuilding = store.rebuilding.rebuild(
        record, owner=(await find(store)).owner, idempotency_key=None, run_id="one", link_hashes=[]
    )
    assert await run_during(store, DECLINED, rebuilding) is Rebuilt.NOT_NEEDED
    assert (await find(store)).status is Status.DECLINED


@pytest.mark.parametrize(
    ("change", "ordinal", "known_link"), [(DECLINED, 1, None), (NEWER_LINK, 3, 3)]
)
async def test_link_does_not_replace_what_came_first(
    store: AccountStore,
    example: dict[str, Any],
    change: Update,
    ordinal: int,
    known_link: int | None,
) -> None:
    before = await find(store)
    link = IssueLink(request_id="one", request=with_new_approver(example), ordinal=2, at=NOW)
    issuing = store.requests.issue_link(link, (), LIMITS)
    issued: Checked = await run_during(store, change, issuing)
    assert (issued.restarted.link_ordinal if issued.restarted else None) == known_link
    after = await find(store)
    assert after.customer_email == before.customer_email
    assert after.link_ordinal == ordinal


async def test_link_waits_for_other_requests_of_its_requester(
    store: AccountStore, example: dict[str, Any]
) -> None:
    """Otherwise both could use the last email that a limit allows."""
    known = await find(store)
    link = IssueLink(request_id="one", request=with_new_approver(example), ordinal=2, at=NOW)
    async with transaction(store.engine, writes=True) as connection:
        await lock_requester(connection, known.owner, known.requester_email)
        issuing = asyncio.create_task(store.requests.issue_link(link, (), LIMITS))
        while not issuing.done() and not await is_waiting(connection):
            await asyncio.sleep(0.01)
        assert not issuing.done()
    assert await issuing == Checked()


async def test_request_that_a_new_run_takes_over_is_not_settled(store: AccountStore) -> None:
    known = await store.comparison.find("one")
    assert known
    settling = store.comparison.settle(known, NOW)
    taken_over = update(tables.requests).values(run_id="second")
    assert not await run_during(store, taken_over, settling)
    assert (await find(store)).status is Status.PENDING


async def test_missing_text_does_not_bring_back_an_erased_address(store: AccountStore) -> None:
    async with store.engine.begin() as connection:
        await connection.execute(update(tables.requests).values(search_text=None))
    erased = update(tables.requests).values(customer_email=ERASED)
    await run_during(store, erased, add_missing_texts(store.engine))
    assert "ada@" not in await everything(store)


@pytest.mark.parametrize(
    "change",
    [
        update(tables.requests).values(requester_company="Of ada@acme.example"),
        update(tables.webhook_endpoints).values(url="https://example/ada@acme.example"),
    ],
    ids=["request", "endpoint"],
)
async def test_erasure_finds_what_is_written_meanwhile(store: AccountStore, change: Update) -> None:
    await decide(store, "one", Status.DECLINED)
    await add_endpoint(store, description="For ada@acme.example")
    found = await store.erasure.find("ada@acme.example")
    await run_during(store, change, store.erasure.erase(found.person, ["one"], NOW))
    assert "ada@" not in await everything(store)
