"""The activity ``send_emails``: retries, outages, decisions in the meantime, replaced keys."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError

from smart_accounts.contract.messages import EmailState, SmartAccountRequest, Status
from smart_accounts.contract.steps import (
    Decision,
    EmailOutcome,
    IssueLink,
    RecordDecision,
)
from smart_accounts.errors import Unavailable
from smart_accounts.mail.compose import Composer
from smart_accounts.mail.refusals import NOT_ACCEPTED
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from tests.support.emails import ACTIVATION, REMINDER, REQUEST_RECEIVED, SITE
from tests.support.keys import NEW_KEY, OLD_KEY
from tests.support.ledger import add_email, outcome_of
from tests.support.mail_server import LinkIn, MailServer
from tests.support.metrics import RecordedMetrics
from tests.support.sending import LIMITS, NOW, send, sender_to
from tests.support.store import Query


async def test_sent_email_is_not_sent_again(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    first = await send(pending, sender, ACTIVATION, REQUEST_RECEIVED)
    assert await send(pending, sender, ACTIVATION, REQUEST_RECEIVED) == first
    assert len(mail_server.emails) == 2


async def test_email_outdated_by_a_decision_is_dropped(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    await pending.requests.close(
        RecordDecision(request_id="one", decision=Decision(status=Status.DECLINED, at=NOW))
    )
    outcomes = await send(pending, sender, ACTIVATION, REQUEST_RECEIVED)
    assert {outcome.state for outcome in outcomes} == {EmailState.DROPPED}
    assert not mail_server.emails


async def test_email_with_an_old_link_is_dropped(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer, example: dict[str, Any]
) -> None:
    request = SmartAccountRequest.model_validate(example)
    link = IssueLink(request_id="one", request=request, ordinal=2, at=NOW)
    await pending.requests.issue_link(link, (), LIMITS)
    [outcome] = await send(pending, sender, ACTIVATION)
    assert outcome.state == EmailState.DROPPED
    assert not mail_server.emails


async def test_email_is_sent_once_while_the_database_is_down(
    pending: AccountStore,
    sender: SmtpSender,
    mail_server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record, calls = pending.emails.record, []

    async def fail_once(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise Unavailable("The database does not respond.")
        await record(*args)

    monkeypatch.setattr(pending.emails, "record", fail_once)
    [outcome] = await send(pending, sender, ACTIVATION)
    assert outcome.state == EmailState.SENT
    assert len(mail_server.emails) == 1


async def test_link_stays_the_same_until_its_key_is_removed(
    pending: AccountStore,
    sender: SmtpSender,
    mail_server: MailServer,
    link_in: LinkIn,
    query_store: Query,
) -> None:
    links = []
    for keys in ((OLD_KEY,), (NEW_KEY, OLD_KEY), (NEW_KEY,)):
        await send(pending, sender, ACTIVATION, keys=keys)
        links.append(link_in(mail_server.emails[-1]))
        await query_store("DELETE FROM emails")
    assert links[0] == links[1]
    assert links[1] != links[2], "a link does not work without its key"
    assert len(await query_store("SELECT * FROM activation_links")) == 1


async def test_activity_fails_if_all_emails_are_refused_temporarily(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 4.7.1 <ada@acme.example> greylisted"
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, ACTIVATION)
    assert not caught.value.non_retryable
    assert "ada@" not in str(caught.value), "failure messages are not encrypted"


@pytest.fixture
async def wrong_login(mail_server: MailServer) -> AsyncIterator[SmtpSender]:
    sender = sender_to(mail_server, username="us", password="wrong")
    yield sender
    await sender.aclose()


async def is_delayed_since(store: AccountStore, first_try: datetime) -> bool:
    """Return True if the five days of refusals begin again after the first try."""
    outcome = await outcome_of(store, "one", ACTIVATION)
    assert outcome
    return outcome.answer == NOT_ACCEPTED and outcome.at > first_try


async def test_own_outage_does_not_count_as_refusal(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 greylisted"
    with pytest.raises(ApplicationError):
        await send(pending, sender, ACTIVATION)
    first = await outcome_of(pending, "one", ACTIVATION)
    assert first
    await mail_server.stop()
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, ACTIVATION, at=NOW + timedelta(hours=1))
    assert caught.value.type == "MailServerUnreachable"
    assert await is_delayed_since(pending, first.at)


async def test_wrong_smtp_settings_do_not_count_as_refusal(
    pending: AccountStore, sender: SmtpSender, wrong_login: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 greylisted"
    with pytest.raises(ApplicationError):
        await send(pending, sender, ACTIVATION)
    first = await outcome_of(pending, "one", ACTIVATION)
    assert first
    with pytest.raises(ApplicationError) as caught:
        await send(pending, wrong_login, ACTIVATION, at=NOW + timedelta(hours=1))
    assert caught.value.type == "SenderMisconfigured"
    assert await is_delayed_since(pending, first.at)


async def test_bounce_is_recognised_after_a_new_key(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 greylisted"
    with pytest.raises(ApplicationError):
        await send(pending, sender, ACTIVATION, keys=(OLD_KEY,))
    mail_server.refusals = {}
    await send(pending, sender, ACTIVATION, keys=(NEW_KEY, OLD_KEY))
    token = mail_server.emails[0]["Return-Path"].removeprefix("bounce-").partition("@")[0]
    returned = await pending.emails.find_returned(token)
    assert returned
    assert returned.email == ACTIVATION


OURS = "553 5.7.1 <bounce-x@bounces.example>: Sender address rejected: not owned by user"


async def test_wrong_login_is_named_and_retried_slowly(
    pending: AccountStore, wrong_login: SmtpSender
) -> None:
    with pytest.raises(ApplicationError) as caught:
        await send(pending, wrong_login, ACTIVATION)
    assert caught.value.type == "SenderMisconfigured"
    assert caught.value.next_retry_delay == timedelta(minutes=10)


async def test_refusal_because_of_us_is_named_and_retried_slowly(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.refusals["ada@acme.example"] = OURS
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, ACTIVATION)
    assert caught.value.type == "SenderMisconfigured"
    assert caught.value.next_retry_delay == timedelta(minutes=10)
    outcome = await outcome_of(pending, "one", ACTIVATION)
    assert outcome
    assert (outcome.state, outcome.answer) == (EmailState.QUEUED, OURS)


async def test_refusal_because_of_us_is_logged_once_and_counted(
    pending: AccountStore,
    sender: SmtpSender,
    mail_server: MailServer,
    caplog: pytest.LogCaptureFixture,
    metrics: RecordedMetrics,
) -> None:
    mail_server.refusals = {"ada@acme.example": OURS, "pat@partner.example": OURS}
    with pytest.raises(ApplicationError):
        await send(pending, sender, ACTIVATION, REQUEST_RECEIVED, meter=metrics.meter)
    [line] = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert line.startswith("the mail server refuses our emails (553 5.7.1): check")
    counted = Counter(name for name, _ in metrics.read())
    assert counted["smart_accounts_emails_refused_because_of_sender"] == 2
    assert counted["smart_accounts_emails activation delayed"] == 1


@pytest.mark.parametrize("others", ["accept", "refuse"])
async def test_refusal_because_of_us_is_final_only_if_other_domains_accept(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer, others: str
) -> None:
    mail_server.refusals = {"ada@acme.example": OURS}
    if others == "refuse":
        mail_server.refusals["pat@partner.example"] = OURS
    with contextlib.suppress(ApplicationError):
        await send(pending, sender, ACTIVATION, REQUEST_RECEIVED)
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    await add_email(pending, "one", REMINDER, sent, recipient="bo@Acme.example")
    returned = EmailOutcome(state=EmailState.SENT, at=NOW, answer="550 5.7.1 no")
    second = REMINDER.model_copy(update={"number": 2})
    await add_email(pending, "one", second, returned, recipient="eve@other.example")
    first = EmailOutcome(state=EmailState.QUEUED, at=NOW - timedelta(days=6), answer=OURS)
    await add_email(pending, "one", ACTIVATION, first)
    if others == "refuse":
        with pytest.raises(ApplicationError):
            await send(pending, sender, ACTIVATION)
        assert await outcome_of(pending, "one", ACTIVATION) == first
    else:
        [outcome] = await send(pending, sender, ACTIVATION)
        assert outcome.state == EmailState.FAILED
        assert outcome.answer == f"Refused for 5 days: {OURS}"


async def test_returned_email_is_not_sent_again(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 later"
    with pytest.raises(ApplicationError):
        await send(pending, sender, ACTIVATION)  # the mail server may have it nevertheless
    mail_server.refusals = {}
    own_id = Composer(SITE).message_id(ACTIVATION, "one")
    returned = await pending.emails.find_returned(LinkTokens([NEW_KEY]).return_token(own_id))
    assert returned
    await pending.emails.mark_returned(returned, "550 5.7.1 no")
    await pending.emails.mark_returned(returned, "550 5.7.1 the second report")
    [outcome] = await send(pending, sender, ACTIVATION)
    assert (outcome.state, outcome.answer) == (EmailState.SENT, "550 5.7.1 no")
    assert not mail_server.emails


async def test_one_refused_email_does_not_hide_the_others(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.refusals["pat@partner.example"] = "451 later"
    outcomes = await send(pending, sender, ACTIVATION, REQUEST_RECEIVED)
    assert [outcome.state for outcome in outcomes] == [EmailState.SENT, EmailState.QUEUED]


async def test_bounce_before_the_outcome_finds_the_email(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    mail_server.slow_recipients = {"ada@acme.example"}
    sending = asyncio.create_task(send(pending, sender, ACTIVATION))
    async with asyncio.timeout(40):
        while not mail_server.slow_attempts:
            await asyncio.sleep(0.02)
    own_id = Composer(SITE).message_id(ACTIVATION, "one")
    returned = await pending.emails.find_returned(LinkTokens([NEW_KEY]).return_token(own_id))
    assert returned
    bounced = EmailOutcome(state=EmailState.BOUNCED, at=NOW, answer="550 gone")
    await pending.emails.mark_bounced(returned, bounced)
    mail_server.slow_recipients = set()
    await sending
    assert await outcome_of(pending, "one", ACTIVATION) == bounced
