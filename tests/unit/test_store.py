"""The account store on SQLite: repeated writes, constraints and outages."""

import asyncio
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from smart_accounts.contract.messages import EmailKind, EmailState, SmartAccountRequest, Status
from smart_accounts.contract.steps import (
    Addressee,
    Checked,
    Decision,
    Email,
    EmailOutcome,
    IssueLink,
    OpenRequest,
    RecordDecision,
)
from smart_accounts.errors import Unavailable
from smart_accounts.store import database
from smart_accounts.store.database import transaction
from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore
from tests.support.ledger import outcome_of
from tests.support.limits import new_limits
from tests.support.sending import send_attempt
from tests.support.store import Query

NOW = datetime(2026, 11, 25, 12, 0, 0, 123456, tzinfo=UTC)
LIMITS = new_limits()
ACCEPTED = Decision(status=Status.ACTIVE, at=NOW, by="ada@acme.example")
ACCEPTED_ONE = RecordDecision(request_id="one", decision=ACCEPTED)
LAPSED_ONE = RecordDecision(request_id="one", decision=Decision(status=Status.LAPSED, at=NOW))


@pytest.fixture
def opening(example: dict[str, Any]) -> Any:
    def named(request_id: str) -> OpenRequest:
        return OpenRequest(
            request_id=request_id,
            request=SmartAccountRequest.model_validate(example),
            requested_at=NOW,
            deadline=NOW + timedelta(days=90),
        )

    return named


async def test_repeated_writes_change_nothing(
    store: AccountStore, opening: Any, query_store: Query
) -> None:
    for _ in range(2):
        assert await store.requests.open(opening("one"), (), LIMITS) == Checked()
    for _ in range(2):
        assert (await store.requests.activate(ACCEPTED_ONE)).decision == ACCEPTED
    assert await store.requests.close(LAPSED_ONE) == ACCEPTED
    assert await query_store("SELECT status FROM requests") == [{"status": "active"}]
    assert await query_store("SELECT state FROM accounts") == [{"state": "active"}]
    assert len(await query_store("SELECT * FROM account_users")) == 2


async def test_repeated_start_knows_that_the_customer_was_asked(
    store: AccountStore, opening: Any
) -> None:
    """A lost task or a reset repeats the start. The link counts if its email may have left."""
    await store.requests.open(opening("one"), (), LIMITS)
    activation = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
    await store.emails.begin(send_attempt(activation, NOW))
    restarted = (await store.requests.open(opening("one"), (), LIMITS)).restarted
    assert restarted
    assert (restarted.request_id, restarted.link_ordinal) == ("one", 1)
    assert restarted.customer_email == opening("one").request.customer_email


async def test_repeated_rejection_gives_the_same_reason(store: AccountStore, opening: Any) -> None:
    await store.requests.open(opening("one"), (), LIMITS)
    await store.requests.activate(ACCEPTED_ONE)
    first = await store.requests.open(opening("two"), (), LIMITS)
    assert first.refused
    assert await store.requests.open(opening("two"), (), LIMITS) == first


async def test_second_open_account_of_a_domain_violates_a_constraint(
    store: AccountStore, opening: Any, query_store: Query
) -> None:
    await store.requests.open(opening("one"), (), LIMITS)
    await query_store(
        f"INSERT INTO requests (id, {ALL_BUT_ID}) SELECT 'two', {ALL_BUT_ID} FROM requests"
    )
    account = "INSERT INTO accounts VALUES ('two', 'acme.example', 'Acme', '{}', NULL)"
    with pytest.raises(IntegrityError):
        await query_store(account.format("provisional"))
    await query_store(account.format("closed"))


ALL_BUT_ID = (
    "workflow_id, status, account_name, account_domain, customer_email, requester_email,"
    " requester_name, requester_company, note_to_customer, note_to_added_users, added_users,"
    " needs_attention, requested_at, deadline, link_ordinal, idempotency_key, signalled,"
    " decided_at, decided_by, reason"
)


async def test_final_outcome_of_an_email_is_kept(store: AccountStore, opening: Any) -> None:
    await store.requests.open(opening("one"), (), LIMITS)
    email = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
    assert (await store.emails.begin(send_attempt(email, NOW))).outcome is None

    async def record(state: EmailState, reply: str | None = None) -> EmailOutcome:
        outcome = EmailOutcome(state=state, at=NOW, answer=reply)
        await store.emails.record("one", email, outcome)
        return outcome

    for reply in ("451 one", "451 two"):
        queued = await record(EmailState.QUEUED, reply)
        assert await outcome_of(store, "one", email) == queued
    sent = await record(EmailState.SENT)
    await record(EmailState.FAILED, "550")
    assert await outcome_of(store, "one", email) == sent


async def test_times_are_returned_in_utc(store: AccountStore, opening: Any) -> None:
    await store.requests.open(opening("one"), (), LIMITS)
    found = await store.requests.find("one")
    assert found
    assert found.requested_at == NOW
    assert found.requested_at.tzinfo == UTC


async def test_first_signal_is_kept(store: AccountStore, opening: Any) -> None:
    await store.requests.open(opening("one"), (), LIMITS)
    await store.requests.note_signalled("one", 1, "declined")
    await store.requests.note_signalled("one", 1, "accepted")
    found = await store.requests.find("one")
    assert found
    assert (found.signalled, found.answer) == ("declined", "declined")


async def test_new_approver_can_answer_after_an_answer_on_its_way(
    store: AccountStore, opening: Any, example: dict[str, Any]
) -> None:
    await store.requests.open(opening("one"), (), LIMITS)
    await store.requests.note_signalled("one", 1, "accepted")
    request = SmartAccountRequest.model_validate(example | {"customer_email": "cy@acme.example"})
    link = IssueLink(request_id="one", request=request, ordinal=2, at=NOW)
    await store.requests.issue_link(link, (), LIMITS)
    waiting = await store.requests.find("one")
    assert waiting
    assert waiting.awaits_answer
    await store.requests.note_signalled("one", 2, "declined")
    answered = await store.requests.find("one")
    assert answered
    assert answered.answer == "declined"


async def test_second_migration_changes_nothing(database_url: str, store: AccountStore) -> None:
    await migrate(database_url)
    await store.ping()


async def test_database_that_is_down_is_unavailable(free_port: Any) -> None:
    url = f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/nothing"
    async with AccountStore.open(url) as store:
        with pytest.raises(Unavailable):
            await store.ping()


async def test_errors_do_not_quote_stored_values(
    store: AccountStore, opening: Any, query_store: Query
) -> None:
    await query_store("DROP TABLE account_users")
    await store.requests.open(opening("one"), (), LIMITS)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any error of the database
        await store.requests.activate(ACCEPTED_ONE)
    assert "ada@acme.example" not in f"{caught.value!s}{caught.value.__cause__!s}"


async def test_idempotency_keys_are_purged(store: AccountStore) -> None:
    old, young = "a" * 64, "b" * 64
    await store.idempotency.claim(old, "call", NOW - timedelta(days=101))
    await store.idempotency.claim(young, "call", NOW - timedelta(days=99))
    assert await store.idempotency.call_of(old) == "call"
    await store.idempotency.claim("c" * 64, "call", NOW)
    assert await store.idempotency.call_of(old) is None
    assert await store.idempotency.call_of(young) == "call"


async def test_sqlite_file_is_private(tmp_path: Path) -> None:
    file = tmp_path / "private.db"
    await migrate(f"sqlite+aiosqlite:///{file}")
    async with AccountStore.open(f"sqlite+aiosqlite:///{file}") as store:
        await store.ping()
        for each in tmp_path.iterdir():  # also the files that SQLite adds
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each.name


async def test_writers_of_sqlite_take_turns(store: AccountStore) -> None:
    turns = []

    async def write(number: int) -> None:
        async with transaction(store.engine, writes=True):
            turns.append(number)
            await asyncio.sleep(0.01)

    await asyncio.gather(*map(write, range(12)))
    assert turns == list(range(12))


async def test_waiting_for_a_locked_file_ends(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SQLITE_BUSY_SECONDS", 0.3)
    other_program = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    async with AccountStore.open(database_url) as store:
        with closing(other_program):
            other_program.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(40):
                writes = (store.idempotency.release(str(number)) for number in range(200))
                results = await asyncio.gather(*writes, return_exceptions=True)
        assert {type(result) for result in results} == {Unavailable}
        await store.idempotency.release("key")
