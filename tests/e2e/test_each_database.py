"""Behaviour of the store that must be the same on SQLite and PostgreSQL."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest

from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.steps import (
    Addressee,
    Checked,
    CloseAccount,
    ClosedAccount,
    Decision,
    Email,
    EmailOutcome,
    OpenRequest,
    RecordDecision,
)
from smart_accounts.errors import BadSetting, Unavailable
from smart_accounts.mail.bounces import read_bounce
from smart_accounts.store import database, search
from smart_accounts.store.database import create_engine, transaction
from smart_accounts.store.migrate import LOCK, migrate, upgrade
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens, return_path
from tests.e2e.test_bounces import REPORT
from tests.support.keys import KEY
from tests.support.limits import new_limits
from tests.support.partner_site import CLOSING
from tests.support.postgres import Postgres
from tests.support.sending import send_attempt
from tests.support.service import Service
from tests.support.store import QueryDatabase


async def test_limits_hold_for_starts_at_once(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    now = datetime.now(UTC)

    def opening(number: int) -> OpenRequest:
        request = SmartAccountRequest.model_validate(
            example | {"account_domain": f"acme-{number}.example"}
        )
        deadline = now + timedelta(days=90)
        return OpenRequest(
            request_id=str(number), request=request, requested_at=now, deadline=deadline
        )

    async with AccountStore.open(any_database_url) as store:
        limits = new_limits()
        results = await asyncio.gather(
            *(store.requests.open(opening(number), (), limits) for number in range(12))
        )
    assert [result.refused for result in results].count(None) == 5


@pytest.mark.parametrize("by", ["a\u0000b", "\ud800"], ids=["NUL", "lone surrogate"])
async def test_characters_that_databases_reject_do_not_block_a_request(
    service_on_any_database: Service, new_request: dict[str, Any], by: str
) -> None:
    service = service_on_any_database
    await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    body = json.dumps({"accepted_by": by}).encode()
    await service.temporal.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace="default",
            workflow_execution=WorkflowExecution(workflow_id=started.workflow_id),
            signal_name="accepted",
            input=Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=body)]),
        )
    )
    if "\ud800" in by:  # not valid JSON, so the signal is dropped
        await asyncio.sleep(0.5)
        await service.wait_for(started, Status.PENDING)
        await service.requests().accept(started.workflow_id)
    await service.wait_for(started, Status.ACTIVE)


async def test_database_is_ready_after_its_migration(
    any_database_url: str, query_database: QueryDatabase
) -> None:
    async with AccountStore.open(any_database_url) as store:
        with pytest.raises(Unavailable, match="not migrated"):
            await store.ping()
        await migrate(any_database_url)
        await store.ping()
        await query_database(any_database_url, "UPDATE alembic_version SET version_num = '0003'")
        with pytest.raises(Unavailable, match="not migrated"):
            await store.ping()
        await query_database(any_database_url, "UPDATE alembic_version SET version_num = '9999'")
        await store.ping()  # the revision of a newer release, on which this release still runs


NOW = datetime.now(UTC)
LIMITS = new_limits()


def opened(request_id: str, at: datetime, example: dict[str, Any]) -> OpenRequest:
    request = SmartAccountRequest.model_validate(example)
    deadline = at + timedelta(days=90)
    return OpenRequest(request_id=request_id, request=request, requested_at=at, deadline=deadline)


async def test_late_step_of_a_terminated_run_does_not_change_the_newer_request(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as store:
        assert await store.requests.open(opened("newer", NOW, example), (), LIMITS) == Checked()
        late = opened("terminated", NOW - timedelta(seconds=1), example)
        with pytest.raises(IntegrityError):  # one open account per domain
            await store.requests.open(late, (), LIMITS)
        newer = await store.requests.find("newer")
        assert newer
        assert newer.status == Status.PENDING
        assert await store.requests.find("terminated") is None


async def test_account_is_closed_once(
    any_database_url: str, example: dict[str, Any], query_database: QueryDatabase
) -> None:
    await migrate(any_database_url)
    activated = Decision(status=Status.ACTIVE, at=NOW, by="ada@acme.example")
    active = RecordDecision(request_id="first", decision=activated)

    def closing(number: int) -> CloseAccount:
        closing = CLOSING.model_copy(update={"reason": f"Reason {number}."})
        return CloseAccount(request_id="first", closing=closing, at=NOW)

    async with AccountStore.open(any_database_url) as store:
        requests = store.requests
        await requests.open(opened("first", NOW, example), (), LIMITS)
        assert await requests.close_account(closing(0)) == ClosedAccount()
        await requests.activate(active)
        taken = await requests.open(opened("second", NOW, example), (), LIMITS)
        closed = await asyncio.gather(*(requests.close_account(closing(n)) for n in range(5)))
        assert len({each.reason for each in closed}) == 1
        assert await requests.close_account(closing(6)) == closed[0]
        elsewhere = CLOSING.model_copy(update={"account_domain": "other.example"})
        mistaken = CloseAccount(request_id="first", closing=elsewhere, at=NOW)
        assert await requests.close_account(mistaken) == ClosedAccount()
        await requests.activate(active)  # a step that is repeated late
        users = await query_database(any_database_url, "SELECT * FROM account_users")
        free = await requests.open(opened("third", NOW, example), (), LIMITS)
    assert taken.refused == "The domain already has an active Smart Account."
    assert (users, free) == ([], Checked())


async def test_migration_has_no_time_limit(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "COMMAND_SECONDS", 1.5)
    url = postgres.new_database()
    engine = create_engine(url)
    async with engine.connect() as other:
        await other.execute(text(f"SELECT pg_advisory_lock({LOCK})"))
        migrating = asyncio.create_task(migrate(url))
        await asyncio.wait([migrating], timeout=4)
        assert not migrating.done()
    await engine.dispose()
    await migrating
    async with AccountStore.open(url) as store:
        await store.ping()


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_new_database_must_have_utf8(postgres: Postgres, encoding: str) -> None:
    url = postgres.new_database(f"--encoding={encoding}", "--template=template0")
    with pytest.raises(BadSetting, match=f"DATABASE_URL: the database has the encoding {encoding}"):
        await migrate(url)


async def test_process_opens_no_more_connections_than_its_pool_has(postgres: Postgres) -> None:
    url = postgres.new_database()

    async def transact() -> int:
        async with transaction(store.engine, writes=False) as connection:
            await connection.execute(text("SELECT pg_sleep(0.1)"))
            return int(
                await connection.scalar(
                    text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
                )
            )

    async with AccountStore.open(url, pool_size=2) as store:
        counts = await asyncio.gather(*(transact() for _ in range(6)))
    assert max(counts) == 2


ACTIVATION = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
REMINDER = Email(kind=EmailKind.REMINDER, to=Addressee.CUSTOMER)
BOUNCES = "bounces.accounts.example"
MESSAGE_ID = "<1@accounts.example>"
TOKEN = LinkTokens([KEY]).return_token(MESSAGE_ID)


async def migrate_to(url: str, revision: str) -> None:
    engine = create_engine(url)
    async with transaction(engine, writes=True) as connection:
        await connection.run_sync(upgrade, revision)
    await engine.dispose()


# A row as an older release stores it, without the columns that were added later.
OLD_REQUEST = (
    "INSERT INTO requests (id, workflow_id, status, account_name, account_domain, customer_email,"
    " requester_email, requester_name, requester_company, added_users, needs_attention,"
    " requested_at, deadline, link_ordinal) VALUES ('one', 'smart-account-acme.example', 'pending',"
    " 'Acme', 'acme.example', 'ada@acme.example', 'pat@partner.example', 'Pat', 'Partner', '[]',"
    " '[]', '2026-11-26', '2027-02-24', 1)"
)


def insert_old_email(email: Email, message_id: str, return_token: str) -> str:
    key = f"'one', '{email.kind}', '{email.to}', {email.number}"
    return (
        "INSERT INTO emails (request_id, kind, addressee, number, message_id, recipient, state,"
        f" at, return_token) VALUES ({key}, '{message_id}', 'ada@acme.example', 'sent',"
        f" '2026-11-26', '{return_token}')"
    )


async def test_bounces_of_emails_sent_before_return_tokens_were_hashed_are_recognised(
    any_database_url: str, query_database: QueryDatabase
) -> None:
    await migrate_to(any_database_url, "0006")
    async with AccountStore.open(any_database_url) as store:
        await query_database(any_database_url, OLD_REQUEST)
        await query_database(any_database_url, insert_old_email(ACTIVATION, MESSAGE_ID, TOKEN))
        await migrate(any_database_url)
        assert not await query_database(
            any_database_url, f"SELECT * FROM emails WHERE return_token = '{TOKEN}'"
        )
        returned = await store.emails.find_returned(TOKEN)
        assert returned
        assert returned.email == ACTIVATION
        # A worker of the previous release runs for some seconds more.
        await query_database(any_database_url, insert_old_email(REMINDER, "<2@x>", "b" * 32))
        late = await store.emails.find_returned("b" * 32)
        assert late
        assert late.email == REMINDER


async def test_requests_of_an_older_release_are_found(
    any_database_url: str, query_database: QueryDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "ROWS_AT_ONCE", 2)
    await migrate_to(any_database_url, "0011")
    for name in ("one", "two", "three"):
        await query_database(any_database_url, OLD_REQUEST.replace("'one'", f"'{name}'"))
    await query_database(any_database_url, "UPDATE requests SET account_name = 'Ärzte'")
    await migrate(any_database_url)
    # A worker of the previous release runs for some seconds more.
    await query_database(any_database_url, OLD_REQUEST.replace("'one'", "'late'"))
    async with AccountStore.open(any_database_url) as store:
        assert (await store.listing.page(owner=None, search="ärzte")).total == 3
        assert (await store.listing.page(owner=None, search="ACME")).total == 4
    await query_database(any_database_url, "UPDATE requests SET account_name = 'Ärzte'")
    await migrate(any_database_url)  # by the next worker
    async with AccountStore.open(any_database_url) as store:
        assert (await store.listing.page(owner=None, search="ärzte")).total == 4


async def test_copy_of_the_database_has_no_return_path(
    any_database_url: str, example: dict[str, Any], query_database: QueryDatabase
) -> None:
    await migrate(any_database_url)
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    async with AccountStore.open(any_database_url) as store:
        await store.requests.open(opened("one", NOW, example), (), LIMITS)
        attempt = replace(send_attempt(ACTIVATION, NOW, LinkTokens([KEY])), message_id=MESSAGE_ID)
        assert not (await store.emails.begin(attempt)).outcome
        assert await store.emails.find_returned(TOKEN), "a bounce may come before the outcome"
        await store.emails.record("one", ACTIVATION, sent)
        assert await store.emails.find_returned(TOKEN)
    [row] = await query_database(any_database_url, "SELECT * FROM emails")
    stored = [str(value) for value in row.values()]
    assert TOKEN not in stored
    bounces = [
        read_bounce(REPORT.format(to=return_path(value, BOUNCES)).encode(), BOUNCES)
        for value in stored
    ]
    assert not any(bounces), "no stored value is the token of a return path"
