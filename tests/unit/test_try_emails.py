"""The local activity ``try_emails``, and emails that are still being sent when it ends."""

import asyncio
import gc
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from activities import emails as emails_module
from smart_accounts.contract.messages import EmailKind, EmailState
from smart_accounts.contract.steps import Addressee, Email, EmailOutcome
from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.mail.smtp import RefusedTemporarily, SmtpSender
from smart_accounts.store import database
from smart_accounts.store.database import transaction
from smart_accounts.store.sending import Begun
from smart_accounts.store.store import AccountStore
from tests.support.emails import ACTIVATION, REMINDER, REQUEST_RECEIVED
from tests.support.ledger import outcome_of
from tests.support.limits import new_limits
from tests.support.mail_server import MailServer
from tests.support.sending import NOW, email_activities, send, send_attempt, sender_to, try_locally
from tests.support.store import Query


async def test_emails_are_sent(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    worker = email_activities(pending, sender)
    outcomes = await try_locally(worker, ACTIVATION, REQUEST_RECEIVED)
    assert [each.state for each in outcomes] == [EmailState.SENT, EmailState.SENT]
    assert sorted(mail_server.kinds()) == ["activation", "request-received"]


async def test_refused_email_stays_queued_and_delays_no_other(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 greylisted"
    worker = email_activities(pending, sender)
    outcomes = await try_locally(worker, ACTIVATION, REQUEST_RECEIVED)
    assert [each.state for each in outcomes] == [EmailState.QUEUED, EmailState.SENT]
    mail_server.refusals = {}
    [again] = await try_locally(worker, ACTIVATION)
    assert again.state == EmailState.SENT, "one recipient's refusal is no outage"


async def test_email_at_its_final_dot_is_neither_cut_nor_repeated(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    """The mail server takes 20 seconds. Meanwhile, another worker gets the email too."""
    mail_server.hold_replies = True
    other_sender, started = sender_to(mail_server), time.monotonic()
    [outcome] = await try_locally(email_activities(pending, sender), ACTIVATION)
    assert outcome.state == EmailState.QUEUED
    assert 2.9 <= time.monotonic() - started < 20
    elsewhere = asyncio.create_task(
        send(pending, other_sender, ACTIVATION, at=NOW + timedelta(seconds=3))
    )
    await asyncio.sleep(17)  # longer than the lease, which is therefore renewed
    assert not elsewhere.done()
    mail_server.hold_replies = False
    async with asyncio.timeout(40):
        [outcome] = await elsewhere
    assert outcome.state == EmailState.SENT
    assert mail_server.kinds() == ["activation"]
    await other_sender.aclose()


async def test_unfinished_emails_are_finished_when_the_worker_stops(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer, query_store: Query
) -> None:
    mail_server.hold_replies = True
    worker = email_activities(pending, sender)
    await try_locally(worker, ACTIVATION)
    await worker.finish(within=timedelta(seconds=0.1))
    assert await states(query_store) == ["queued"]
    mail_server.hold_replies = False
    await worker.finish(within=timedelta(seconds=40))
    assert await states(query_store) == ["sent"]


async def test_late_refusal_is_not_logged(
    pending: AccountStore,
    sender: SmtpSender,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """asyncio would quote the mail server's reply, which may name a person."""
    worker, answers = email_activities(pending, sender), asyncio.Event()

    async def refuse(*_given: Any) -> None:
        await answers.wait()
        raise RefusedTemporarily("452 Ada's mailbox is full")

    monkeypatch.setattr(worker._delivery, "_attempt", refuse)
    monkeypatch.setattr(emails_module, "LOCAL_TIME", timedelta(seconds=0.05))
    [outcome] = await try_locally(worker, ACTIVATION)
    assert outcome.state == EmailState.QUEUED
    answers.set()
    await worker.finish(within=timedelta(seconds=40))
    gc.collect()
    assert "mailbox is full" not in caplog.text


async def states(query_store: Query) -> list[str]:
    return [row["state"] for row in await query_store("SELECT state FROM emails")]


async def test_no_local_try_for_a_minute_after_an_outage(
    pending: AccountStore,
    sender: SmtpSender,
    mail_server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = email_activities(pending, sender)
    await mail_server.stop()
    assert [each.state for each in await try_locally(worker, ACTIVATION)] == [EmailState.QUEUED]
    await mail_server.start()
    assert [each.state for each in await try_locally(worker, ACTIVATION)] == [EmailState.QUEUED]
    assert not mail_server.attempts
    monkeypatch.setattr(worker, "_no_local_try_before", time.monotonic())
    assert [each.state for each in await try_locally(worker, ACTIVATION)] == [EmailState.SENT]


async def test_many_emails_are_left_to_the_regular_activity(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    many = [
        Email(kind=EmailKind.ACCESS_GRANTED, to=Addressee.ADDED_USER, number=number)
        for number in range(1, emails_module.MAX_LOCAL_EMAILS + 2)
    ]
    outcomes = await try_locally(email_activities(pending, sender), *many)
    assert {each.state for each in outcomes} == {EmailState.QUEUED}
    assert not mail_server.attempts


async def test_emails_that_begin_together_share_a_transaction(pending: AccountStore) -> None:
    commits = count_commits(pending)
    attempts = [send_attempt(each) for each in (ACTIVATION, REQUEST_RECEIVED, REMINDER)]
    begun = await asyncio.gather(*map(pending.emails.begin, attempts))
    assert len(commits) == 1
    activation, received, reminder = begun
    assert activation.link_token == reminder.link_token is not None
    assert received.link_token is None
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    await asyncio.gather(*(pending.emails.record("one", each.email, sent) for each in attempts))
    assert len(commits) == 2
    assert [await outcome_of(pending, "one", each.email) for each in attempts] == [sent] * 3


async def test_limit_counts_emails_that_begin_together(pending: AccountStore) -> None:
    limits = new_limits(emails_per_mailbox_per_day=1)
    emails = (ACTIVATION, REMINDER, REQUEST_RECEIVED)
    begun = await asyncio.gather(
        *(pending.emails.begin(send_attempt(each, limits=limits)) for each in emails),
        return_exceptions=True,
    )
    assert [type(each) for each in begun] == [Begun, Rejected, Begun]


async def test_slow_recipient_does_not_hold_back_the_outcome_of_another_email(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.slow_recipients = {"ada@acme.example"}
    sending = asyncio.create_task(send(pending, sender, ACTIVATION, REQUEST_RECEIVED))
    async with asyncio.timeout(40):
        while (outcome := await outcome_of(pending, "one", REQUEST_RECEIVED)) is None or (
            outcome.state != EmailState.SENT
        ):
            await asyncio.sleep(0.02)
    assert not sending.done()
    mail_server.slow_recipients = set()
    assert {each.state for each in await sending} == {EmailState.SENT}


async def test_failure_of_a_shared_transaction_reaches_each_caller(
    pending: AccountStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SQLITE_BUSY_SECONDS", 0.1)
    attempts = [send_attempt(ACTIVATION), send_attempt(REQUEST_RECEIVED)]
    async with transaction(pending.engine, writes=True):
        failed = await asyncio.gather(*map(pending.emails.begin, attempts), return_exceptions=True)
    assert [type(each) for each in failed] == [Unavailable, Unavailable]
    begun = await asyncio.gather(*map(pending.emails.begin, attempts))
    assert [each.outcome for each in begun] == [None, None]


def count_commits(store: AccountStore) -> list[None]:
    """Return a list that gets an entry with each commit."""
    commits: list[None] = []
    event.listen(store.engine.sync_engine, "commit", lambda _: commits.append(None))
    return commits
