"""The email activity as Temporal runs it: again after a crash, after a decision, in outages."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.emails import EmailActivities
from smart_accounts.contract.messages import (
    Addressee,
    Email,
    EmailKind,
    EmailState,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.steps import (
    Decision,
    EmailOutcome,
    IssueLink,
    OpenRequest,
    RecordDecision,
    SendEmails,
)
from smart_accounts.errors import Unavailable
from smart_accounts.mail.compose import Composer, Site
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.settings import SmtpTls
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens

LIMITS = Limits(open_per_customer=5, starts_per_requester_per_hour=500)
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
OLD, NEW = "old-key-of-at-least-thirty-two-characters", "new-key-of-at-least-thirty-two-characters"
ACTIVATION = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
RECEIVED = Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER)
SITE = Site(
    base_url="https://accounts.example",
    organisation_name="Smart Accounts",
    support_url=None,
    mail_from="no-reply@accounts.example",
)


@pytest.fixture
async def sender(mail_server: Any) -> AsyncIterator[SmtpSender]:
    opened = SmtpSender(
        hostname="127.0.0.1",
        port=mail_server.port,
        username=None,
        password=None,
        tls=SmtpTls.NONE,
    )
    yield opened
    await opened.aclose()


@pytest.fixture
async def pending(store: AccountStore, example: dict[str, Any]) -> AccountStore:
    request = SmartAccountRequest.model_validate(example)
    new = OpenRequest(
        request_id="one", request=request, requested_at=NOW, deadline=NOW + timedelta(days=90)
    )
    await store.open_request(new, (), LIMITS)
    return store


async def send(
    store: AccountStore, sender: SmtpSender, *emails: Email, keys: tuple[str, ...] = (NEW,)
) -> list[EmailOutcome]:
    activities = EmailActivities(
        store, Composer(SITE), sender, LinkTokens(keys), SITE.base_url, "bounces.example"
    )
    return await ActivityEnvironment().run(
        activities.send_emails, SendEmails(request_id="one", emails=emails)
    )


async def test_settled_email_is_not_sent_again(
    pending: AccountStore, sender: SmtpSender, mail_server: Any
) -> None:
    first = await send(pending, sender, ACTIVATION, RECEIVED)
    assert await send(pending, sender, ACTIVATION, RECEIVED) == first
    assert len(mail_server.mails) == 2


async def test_email_that_a_decision_made_untrue_is_dropped(
    pending: AccountStore, sender: SmtpSender, mail_server: Any
) -> None:
    await pending.close(
        RecordDecision(request_id="one", decision=Decision(status=Status.DECLINED, at=NOW))
    )
    outcomes = await send(pending, sender, ACTIVATION, RECEIVED)
    assert {outcome.state for outcome in outcomes} == {EmailState.DROPPED}
    assert not mail_server.mails


async def test_email_with_a_dead_link_is_dropped(
    pending: AccountStore, sender: SmtpSender, mail_server: Any, example: dict[str, Any]
) -> None:
    request = SmartAccountRequest.model_validate(example)
    link = IssueLink(request_id="one", request=request, ordinal=2, at=NOW)
    await pending.issue_link(link, (), LIMITS)
    [outcome] = await send(pending, sender, ACTIVATION)
    assert outcome.state == EmailState.DROPPED
    assert not mail_server.mails


async def test_database_away_after_the_email_left(
    pending: AccountStore, sender: SmtpSender, mail_server: Any, monkeypatch: Any
) -> None:
    record, calls = pending.emails.record, []

    async def away_once(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise Unavailable("The database does not answer.")
        await record(*args)

    monkeypatch.setattr(pending.emails, "record", away_once)
    [outcome] = await send(pending, sender, ACTIVATION)
    assert outcome.state == EmailState.SENT
    assert len(mail_server.mails) == 1


async def test_next_copy_after_a_rotation_carries_the_link_already_issued(
    pending: AccountStore, sender: SmtpSender, mail_server: Any, link_in: Any, ask: Any
) -> None:
    links = []
    for keys in ((OLD,), (NEW, OLD), (NEW,)):
        await send(pending, sender, ACTIVATION, keys=keys)
        links.append(link_in(mail_server.mails[-1]))
        await ask("DELETE FROM emails")
    assert links[0] == links[1]
    assert links[1] != links[2], "the old key is gone, so its link is dead"
    assert len(await ask("SELECT * FROM activation_links")) == 1


async def test_all_refused_for_now_is_left_to_temporal(
    pending: AccountStore, sender: SmtpSender, mail_server: Any
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 4.7.1 <ada@acme.example> greylisted"
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, ACTIVATION)
    assert not caught.value.non_retryable
    assert "ada@" not in str(caught.value), "failures are not encrypted by themselves"


async def test_days_of_our_own_outage_are_none_of_the_refusals(
    pending: AccountStore, sender: SmtpSender, mail_server: Any
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 greylisted"
    with pytest.raises(ApplicationError):
        await send(pending, sender, ACTIVATION)
    assert await pending.emails.outcome("one", ACTIVATION)
    await mail_server.down()
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, ACTIVATION)
    assert caught.value.type == "MailServerUnreachable"
    assert await pending.emails.outcome("one", ACTIVATION) is None


async def test_email_refused_for_now_under_an_old_key_can_still_bounce(
    pending: AccountStore, sender: SmtpSender, mail_server: Any
) -> None:
    mail_server.refusals["ada@acme.example"] = "451 greylisted"
    with pytest.raises(ApplicationError):
        await send(pending, sender, ACTIVATION, keys=(OLD,))
    mail_server.refusals = {}
    await send(pending, sender, ACTIVATION, keys=(NEW, OLD))
    token = mail_server.mails[0]["Return-Path"].removeprefix("bounce-").partition("@")[0]
    returned = await pending.emails.find_returned(token)
    assert returned
    assert returned.email == ACTIVATION


async def test_our_own_misconfiguration_is_retried_slowly_and_named(
    pending: AccountStore, mail_server: Any
) -> None:
    needs_login = SmtpSender(
        hostname="127.0.0.1",
        port=mail_server.port,
        username="us",
        password="wrong",
        tls=SmtpTls.NONE,
    )
    with pytest.raises(ApplicationError) as caught:
        await send(pending, needs_login, ACTIVATION)
    await needs_login.aclose()
    assert caught.value.type == "SenderMisconfigured"
    assert caught.value.next_retry_delay == timedelta(minutes=10)


async def test_one_refused_for_now_does_not_hide_the_others(
    pending: AccountStore, sender: SmtpSender, mail_server: Any
) -> None:
    mail_server.refusals["pat@partner.example"] = "451 later"
    outcomes = await send(pending, sender, ACTIVATION, RECEIVED)
    assert [outcome.state for outcome in outcomes] == [EmailState.SENT, EmailState.QUEUED]
