"""What the sweep does in the store, on SQLite and PostgreSQL."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import (
    Checked,
    Decision,
    ErasedRequest,
    OpenRequest,
    RecordDecision,
    RequestRecord,
)
from smart_accounts.store.erasure import REASON
from smart_accounts.store.migrate import migrate
from smart_accounts.store.rebuilding import APPROVER_UNKNOWN, Rebuilt
from smart_accounts.store.store import AccountStore
from tests.e2e.test_each_database import LIMITS, NOW, opened
from tests.support.store import QueryDatabase

PAT = Identity("https://login.example", "pat")
LATER = NOW + timedelta(days=1)


async def test_run_takes_over_a_missing_request_once(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as store:
        first = opened("first", NOW, example | {"reminders": ["P1D"]})
        await store.requests.open(first, (), LIMITS)
        [[known]] = [batch async for batch in store.comparison.open_requests()]
        assert await store.restarts.find_lost("first") is None, "it is not missing"
        await store.comparison.set_missing_since(["first"], NOW)
        lost = await store.restarts.find_lost("first")
        assert lost
        assert lost.start_input == first.request
        run = OpenRequest(
            request_id="second",
            request=lost.start_input,
            requested_at=NOW + timedelta(days=1),
            deadline=NOW,
            restarts="first",
        )
        taken = await store.restarts.take_over(run)
        assert taken.restarted
        assert (taken.restarted.request_id, taken.restarted.requested_at) == ("first", NOW)
        assert await store.restarts.take_over(run) == taken, "a repeat after the commit"
        other = run.model_copy(update={"request_id": "third"})
        assert [each.field for each in (await store.restarts.take_over(other)).invalid] == [
            "restarts"
        ]
        assert not await store.comparison.settle(known, NOW), "it was read before the restart"
        current = await store.comparison.find("second")
        assert current
        assert current.id == "first"
        assert await store.comparison.settle(current, NOW)
        assert [request.id for request in await store.comparison.emails_due()] == ["first"]
        await store.comparison.set_emails_due("first", due=False)
        assert await store.comparison.emails_due() == []


async def test_request_is_rebuilt_once(
    any_database_url: str, example: dict[str, Any], query_database: QueryDatabase
) -> None:
    await migrate(any_database_url)
    record = RequestRecord(
        request_id="lost",
        request=opened("lost", NOW, example).request,
        requested_at=NOW,
        status=Status.ACTIVE,
        link_ordinal=2,
        decision=Decision(status=Status.ACTIVE, at=NOW, by="ada@acme.example"),
    )
    async with AccountStore.open(any_database_url) as store:
        older = opened("older", NOW - timedelta(days=1), example)
        assert await store.requests.open(older, (), LIMITS) == Checked()

        async def rebuild() -> Rebuilt:
            return await store.rebuilding.rebuild(
                record,
                owner=PAT,
                idempotency_key="key",
                run_id="run",
                link_hashes=["a" * 64, "b" * 64],
            )

        assert [await rebuild(), await rebuild()] == [Rebuilt.DONE, Rebuilt.NOT_NEEDED]
        rebuilt = await store.requests.find("lost")
        assert rebuilt
        assert (rebuilt.status, rebuilt.owner, rebuilt.link_ordinal) == (Status.ACTIVE, PAT, 2)
        link = await store.links.find("b" * 64)
        assert link
        assert link.ordinal == 2
        withdrawn = await store.requests.find("older")
        assert withdrawn
        assert withdrawn.status is Status.WITHDRAWN
    users = await query_database(any_database_url, "SELECT email FROM account_users ORDER BY email")
    assert users == [{"email": "ada@acme.example"}, {"email": "bo@acme.example"}]


def ended(
    name: str, status: Status, closed_at: datetime | None = None, link: int = 1
) -> ErasedRequest:
    decision = Decision(status=status, at=NOW, by="operator", reason=REASON)
    return ErasedRequest(
        request_id=name,
        account_domain="acme.example",
        decision=decision,
        closed_at=closed_at,
        link_ordinal=link,
        at=LATER,
    )


async def state_of(
    store: AccountStore, query_database: QueryDatabase, database_url: str, name: str
) -> tuple[str, str, datetime | None, int]:
    request = await store.requests.find(name)
    assert request
    [account] = await query_database(
        database_url, f"SELECT state FROM accounts WHERE id = '{name}'"
    )
    users = await query_database(
        database_url, f"SELECT email FROM account_users WHERE account_id = '{name}'"
    )
    return request.status, str(account["state"]), request.closed_at, len(users)


async def test_end_of_an_erased_request_is_restored_once(
    any_database_url: str, example: dict[str, Any], query_database: QueryDatabase
) -> None:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as store:
        restore = store.rebuilding.restore_end
        state = partial(state_of, store, query_database, any_database_url)
        first = ended("first", Status.WITHDRAWN)
        assert await restore(first) is Rebuilt.NOT_NEEDED, "it is not in the backup"
        await store.requests.open(opened("first", NOW, example), (), LIMITS)
        assert [await restore(first), await restore(first)] == [Rebuilt.DONE, Rebuilt.NOT_NEEDED]
        assert await state("first") == ("withdrawn", "closed", None, 0)
        await store.comparison.set_emails_due("first", due=True)  # as in the backup
        assert await restore(first) is Rebuilt.DONE
        assert await store.comparison.emails_due() == []

        await store.requests.open(opened("second", NOW, example), (), LIMITS)
        was_active, closed = ended("second", Status.ACTIVE), ended("second", Status.ACTIVE, LATER)
        third = opened("third", LATER, example)
        await store.requests.open(third, (), LIMITS)  # it takes the second for terminated
        assert [each.id for each in await store.comparison.emails_due()] == ["second"]
        assert await restore(was_active) is Rebuilt.DOMAIN_TAKEN
        await store.requests.close(RecordDecision(request_id="third", decision=first.decision))
        assert [await restore(was_active), await restore(was_active)] == [
            Rebuilt.DONE,
            Rebuilt.NOT_NEEDED,
        ]
        assert await state("second") == ("active", "active", None, 2)
        assert [await restore(closed), await restore(closed)] == [Rebuilt.DONE, Rebuilt.NOT_NEEDED]
        assert await state("second") == ("active", "closed", LATER, 0)

        await store.requests.open(opened("fourth", NOW, example), (), LIMITS)
        await store.requests.close(RecordDecision(request_id="fourth", decision=first.decision))
        await store.purge.purge(await store.purge.ended(LATER, ()), LATER)
        active = Decision(status=Status.ACTIVE, at=LATER)
        other = ended("fourth", Status.ACTIVE)
        other = other.model_copy(update={"at": NOW, "decision": active})
        assert await restore(other) is Rebuilt.NOT_NEEDED, "this store has the erasure"

        await store.requests.open(opened("fifth", NOW, example), (), LIMITS)
        assert await restore(ended("fifth", Status.ACTIVE, link=2)) is Rebuilt.DONE
        assert await state("fifth") == ("active", "active", None, 1)
        fifth = await store.requests.find("fifth")
        assert fifth
        assert (fifth.customer_email, fifth.needs_attention) == ("erased", (APPROVER_UNKNOWN,))
