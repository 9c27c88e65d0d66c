"""Limits and links on SQLite and PostgreSQL: late, repeated and concurrent checks."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

from sqlalchemy import text, update

from smart_accounts.contract.messages import EmailState
from smart_accounts.contract.steps import Checked, EmailOutcome, IssueLink
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.limits import lock_requester
from smart_accounts.store.migrate import migrate
from smart_accounts.store.sending import LEASE, Begun, BeingSent
from smart_accounts.store.store import AccountStore
from tests.e2e.test_each_database import ACTIVATION, LIMITS, NOW, REMINDER, opened
from tests.support.limits import new_limits
from tests.support.postgres import Postgres
from tests.support.sending import send_attempt


async def test_terminated_request_does_not_count_against_the_limit(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    limits = new_limits(open_per_customer=1)
    async with AccountStore.open(any_database_url) as store:
        terminated = opened("terminated", NOW - timedelta(days=1), example)
        assert await store.requests.open(terminated, (), limits) == Checked()
        again = opened("again", NOW, example)
        assert await store.requests.reason_to_reject(again.request, None, NOW, limits) is None
        other = opened("other", NOW, example | {"account_domain": "other.example"})
        assert "which is the limit" in str(
            await store.requests.reason_to_reject(other.request, None, NOW, limits)
        )
        assert await store.requests.open(again, (), limits) == Checked()


async def test_late_check_ignores_requests_that_came_later(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    limits = new_limits(starts_per_requester_per_hour=1)
    async with AccountStore.open(any_database_url) as store:
        assert await store.requests.open(opened("newer", NOW, example), (), limits) == Checked()
        other = example | {"account_domain": "other.example"}
        request = opened("older", NOW, other).request
        assert (
            await store.requests.reason_to_reject(request, None, NOW - timedelta(minutes=1), limits)
            is None
        )
        assert "within an hour" in str(
            await store.requests.reason_to_reject(request, None, NOW, limits)
        )


async def test_requests_that_are_checked_in_reverse_count_each_other(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    limits = new_limits(open_per_customer=1)
    async with AccountStore.open(any_database_url) as store:
        assert await store.requests.open(opened("newer", NOW, example), (), limits) == Checked()
        other = example | {"account_domain": "other.example"}
        older = opened("older", NOW - timedelta(seconds=1), other)
        assert "for this customer" in str((await store.requests.open(older, (), limits)).refused)


async def test_repeated_link_is_not_checked_again(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as store:
        new = opened("one", NOW, example)
        await store.requests.open(new, (), LIMITS)
        link = IssueLink(request_id="one", request=new.request, ordinal=2, at=NOW)
        assert await store.requests.issue_link(link, (), LIMITS) == Checked()
        other = opened("two", NOW, example | {"account_domain": "other.example"})
        await store.requests.open(other, (), LIMITS)
        full = new_limits(emails_per_requester_per_day=1)
        assert await store.requests.issue_link(link, (), full) == Checked()
        third = link.model_copy(update={"ordinal": 3})
        assert "within a day" in str((await store.requests.issue_link(third, (), full)).refused)


async def test_outdated_email_does_not_begin_while_the_link_changes(
    postgres: Postgres, example: dict[str, Any]
) -> None:
    await migrate(url := postgres.new_database())
    async with AccountStore.open(url) as store:
        new = opened("one", NOW, example)
        await store.requests.open(new, (), LIMITS)
        async with transaction(store.engine, writes=True) as connection:
            await lock_requester(connection, None, new.request.requester.email)
            sending = asyncio.create_task(store.emails.begin(send_attempt(ACTIVATION, NOW)))
            while not await connection.scalar(
                text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            ):
                await asyncio.sleep(0.01)
            await connection.execute(update(tables.requests).values(link_ordinal=2))
        outcome = (await sending).outcome
        assert outcome
        assert outcome.state == EmailState.DROPPED


async def test_two_workers_that_begin_and_record_the_same_emails(
    any_database_url: str, example: dict[str, Any]
) -> None:
    """Neither waits for the other for ever, and each email is sent by one of them."""
    await migrate(any_database_url)
    emails = [ACTIVATION, REMINDER, REMINDER.model_copy(update={"number": 2})]
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    async with (
        AccountStore.open(any_database_url) as one,
        AccountStore.open(any_database_url) as other,
    ):
        await one.requests.open(opened("one", NOW, example), (), LIMITS)
        for late in range(5):
            now = NOW + late * LEASE
            begun = await asyncio.gather(
                *(one.emails.begin(send_attempt(each, now, seen_lease=now)) for each in emails),
                *(
                    other.emails.begin(send_attempt(each, now, seen_lease=now))
                    for each in reversed(emails)
                ),
                return_exceptions=True,
            )
            assert Counter(map(type, begun)) == {Begun: 3, BeingSent: 3}
        await asyncio.gather(
            *(one.emails.record("one", each, sent) for each in emails),
            *(other.emails.record("one", each, sent) for each in reversed(emails)),
            *(
                one.emails.begin(send_attempt(each, now + LEASE, seen_lease=now + LEASE))
                for each in emails
            ),
        )


async def test_outcomes_that_are_recorded_together_are_locked_in_one_order(
    postgres: Postgres, example: dict[str, Any]
) -> None:
    """Otherwise two workers could each wait for a row that the other one has locked."""
    await migrate(url := postgres.new_database())
    lock = "SELECT * FROM emails WHERE kind = '{}' FOR UPDATE NOWAIT"
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    async with AccountStore.open(url) as store:
        await store.requests.open(opened("one", NOW, example), (), LIMITS)
        emails = (REMINDER, ACTIVATION)
        await asyncio.gather(*(store.emails.begin(send_attempt(each, NOW)) for each in emails))
        async with transaction(store.engine, writes=True) as connection:
            await connection.execute(text(lock.format("activation")))
            recording = asyncio.gather(*(store.emails.record("one", each, sent) for each in emails))
            while not await connection.scalar(
                text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            ):
                await asyncio.sleep(0.01)
            await connection.execute(text(lock.format("reminder")))
        await recording
