"""The lease of an email that is being sent, which keeps other attempts away from it."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from activities import delivery
from smart_accounts.contract.messages import EmailState
from smart_accounts.contract.steps import Email
from smart_accounts.errors import Unavailable
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.store import sending as sending_module
from smart_accounts.store.database import transaction
from smart_accounts.store.sending import LEASE, Begun, BeingSent
from smart_accounts.store.store import AccountStore
from tests.support.emails import ACTIVATION, REMINDER, REQUEST_RECEIVED
from tests.support.mail_server import MailServer
from tests.support.sending import NOW, send, send_attempt
from tests.support.store import Query


async def test_one_email_is_not_begun_twice_at_once(pending: AccountStore) -> None:
    for at in (NOW, NOW + LEASE):  # the first try, and after a crash
        begun = await asyncio.gather(
            *(pending.emails.begin(send_attempt(ACTIVATION, at, seen_lease=at)) for _ in range(2)),
            return_exceptions=True,
        )
        assert [type(each) for each in begun] == [Begun, BeingSent]


async def test_lease_of_a_killed_worker_expires(pending: AccountStore) -> None:
    async def begin(seconds: float, seen_lease: datetime | None = None) -> None:
        now = NOW + timedelta(seconds=seconds)
        await pending.emails.begin(send_attempt(ACTIVATION, now, seen_lease=seen_lease))

    await begin(0)
    with pytest.raises(BeingSent):
        await begin(LEASE.total_seconds() - 1)
    await pending.emails.renew("one", ACTIVATION, lambda: NOW + timedelta(seconds=8))
    with pytest.raises(BeingSent):
        await begin(8 + LEASE.total_seconds() - 1)
    with pytest.raises(BeingSent) as expired:
        await begin(8 + LEASE.total_seconds())
    await begin(8 + LEASE.total_seconds(), expired.value.leased_until)


async def test_lease_begins_when_the_store_lets_the_attempt_in(pending: AccountStore) -> None:
    now = [NOW]
    attempt = replace(send_attempt(ACTIVATION), clock=lambda: now[-1])
    async with transaction(pending.engine, writes=True):
        beginning = asyncio.create_task(pending.emails.begin(attempt))
        await asyncio.sleep(0)
        now.append(NOW + LEASE)
    await beginning
    with pytest.raises(BeingSent) as other:
        await pending.emails.begin(send_attempt(ACTIVATION, NOW + LEASE))
    assert other.value.leased_until == NOW + 2 * LEASE


async def test_email_that_waits_for_its_turn_has_no_lease(
    pending: AccountStore,
    sender: SmtpSender,
    mail_server: MailServer,
    query_store: Query,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "MAX_ATTEMPTS", 2)
    mail_server.hold_replies = True
    reminders = [replaced(REMINDER, number) for number in range(1, 5)]
    sending = asyncio.create_task(send(pending, sender, ACTIVATION, REQUEST_RECEIVED, *reminders))
    async with asyncio.timeout(40):
        while mail_server.held < 2:
            await asyncio.sleep(0.02)
    leased = await query_store("SELECT kind FROM emails WHERE leased_until IS NOT NULL")
    assert len(leased) == 2
    mail_server.hold_replies = False
    assert {each.state for each in await sending} == {EmailState.SENT}


def replaced(email: Email, number: int) -> Email:
    return email.model_copy(update={"number": number})


@pytest.mark.parametrize("is_store_down", [True, False])
async def test_email_that_was_sent_is_not_sent_again_while_its_outcome_waits(
    pending: AccountStore,
    sender: SmtpSender,
    mail_server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
    is_store_down: bool,
) -> None:
    """The store is down for longer than the lease, or only the outcome waits as long."""
    monkeypatch.setattr(sending_module, "LEASE", timedelta(seconds=0.5))
    monkeypatch.setattr(delivery, "HEARTBEAT_EVERY", timedelta(seconds=0.1))
    monkeypatch.setattr(delivery, "RECORD_TIME", timedelta(seconds=1.5))
    record, waiting = pending.emails.record, asyncio.Event()
    failures = [1] if is_store_down else [1, 2, 3]

    async def record_late(*given: Any) -> None:
        if failures:
            failures.pop()
            waiting.set()
            raise Unavailable("The database does not respond.")
        await record(*given)

    async def fail(*_given: Any) -> None:
        raise Unavailable("The database does not respond.")

    monkeypatch.setattr(pending.emails, "record", record_late)
    if is_store_down:
        monkeypatch.setattr(pending.emails, "renew", fail)
    first = asyncio.create_task(send(pending, sender, ACTIVATION))
    await waiting.wait()
    late = NOW + timedelta(seconds=1) if is_store_down else NOW
    [outcome] = await send(pending, sender, ACTIVATION, at=late)
    assert outcome.state == EmailState.SENT
    assert [outcome] == await first
    assert len(mail_server.emails) == 1
