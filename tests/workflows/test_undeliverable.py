"""Emails that are refused permanently or for days, and emails that bounce."""

from datetime import timedelta

import pytest
from temporalio.common import RetryPolicy

from activities import emails
from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.steps import Addressee, Email
from tests.support.histories import Keep
from tests.support.mail_server import MailServer
from tests.support.scenario import (
    CUSTOMER,
    DAY,
    OTHER,
    REQUESTER,
    USER,
    Scenario,
    email_states,
    text_of,
)
from tests.support.store import Query
from workflows import mailing

ACTIVATION = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
REPLY = "550 5.1.1 unknown"


async def test_refused_activation_email_ends_the_request(
    scenario: Scenario, mail_server: MailServer, query_store: Query, keep: Keep
) -> None:
    mail_server.refusals[CUSTOMER] = "550 5.1.1 no such user"
    async with scenario.worker():
        await scenario.start()
        result = await scenario.handle.result()
        assert result == {
            "status": "undeliverable",
            "reason": "550 5.1.1 no such user",
            "retry_at": None,
        }
        ended = await scenario.status_as_stored()
        assert email_states(ended)["activation", CUSTOMER] == "failed"
        text = text_of(await mail_server.wait_for("undeliverable", REQUESTER))
        assert CUSTOMER in text
        assert "no such user" in text
        keep("undeliverable-with-local-emails", await scenario.handle.fetch_history())
        assert await query_store("SELECT state FROM accounts") == [{"state": "closed"}]
        mail_server.refusals = {}
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
    assert mail_server.attempts[CUSTOMER] == 2
    assert mail_server.kinds(CUSTOMER) == ["activation"]


async def test_refused_email_to_a_new_approver_ends_the_request(
    scenario: Scenario, mail_server: MailServer
) -> None:
    mail_server.refusals[OTHER] = "550 no such user"
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.replace_approver(OTHER)
        assert (await scenario.handle.result())["status"] == "undeliverable"


@pytest.fixture
def rare_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try twice a day. With the real pause of ten minutes, five days are 700 tries."""
    policy = RetryPolicy(initial_interval=timedelta(hours=12), backoff_coefficient=1)
    monkeypatch.setitem(mailing.EMAIL_OPTIONS, "retry_policy", policy)


async def test_temporary_refusal_is_permanent_after_five_days(
    scenario: Scenario, mail_server: MailServer, rare_retries: None
) -> None:
    mail_server.refusals[CUSTOMER] = "451 4.2.2 mailbox full"
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=1)
        await scenario.sleep_until(pending.requested_at + 4.9 * DAY)
        assert (await scenario.status()).status == Status.PENDING
        await scenario.sleep_until(pending.requested_at + 5.6 * DAY)
        ended = await scenario.until(Status.UNDELIVERABLE)
        assert ended.reason == "Refused for 5 days: 451 4.2.2 mailbox full"
        text = text_of(await mail_server.wait_for("undeliverable", REQUESTER))
        assert "This does not mean that the address is wrong." in text
        assert "with another address" not in text


async def test_refusal_because_of_us_ends_no_request_until_it_concerns_one_domain_alone(
    scenario: Scenario, mail_server: MailServer, rare_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails, "MISCONFIGURED_RETRY", timedelta(hours=12))
    ours = "554 5.7.1 Relay access denied"
    mail_server.refusals = {CUSTOMER: ours, REQUESTER: ours}
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING)
        await scenario.sleep_until(pending.requested_at + 6 * DAY)
        waiting = await scenario.status()
        assert waiting.status == Status.PENDING
        assert {email.state for email in waiting.emails} == {"queued"}
        del mail_server.refusals[REQUESTER]
        await scenario.env.sleep(1.1 * DAY)
        ended = await scenario.until(Status.UNDELIVERABLE)
        assert ended.reason == f"Refused for 5 days: {ours}"


async def test_outage_of_our_mail_server_fails_no_email(
    scenario: Scenario, mail_server: MailServer, rare_retries: None
) -> None:
    await mail_server.stop()
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING)
        await scenario.env.sleep(5.6 * DAY)
        waiting = await scenario.status()
        assert waiting.status == Status.PENDING
        assert {email.state for email in waiting.emails} == {"queued"}
        [activity] = await scenario.pending_activities()
        assert "The mail server takes no emails from us" in activity.last_failure.message
        await mail_server.start()
        await scenario.env.sleep(DAY / 2)
        await scenario.until(Status.PENDING, sent=2)
    assert sorted(mail_server.kinds()) == ["activation", "request-received"]


@pytest.mark.parametrize("recipient", [REQUESTER, USER])
async def test_refused_email_to_others_does_not_end_the_request(
    scenario: Scenario, mail_server: MailServer, recipient: str
) -> None:
    mail_server.refusals[recipient] = "550 no such user"
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=1)
        await scenario.accept()
        assert (await scenario.handle.result())["status"] == "active"
        final = await scenario.status_as_stored()
    refused = [email for email in final.emails if email.recipient == recipient]
    assert refused
    assert {(email.state, email.answer) for email in refused} == {("failed", "550 no such user")}


async def test_bounced_activation_email_ends_the_request(
    scenario: Scenario, mail_server: MailServer, keep: Keep
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.report_bounce(ACTIVATION, REPLY)
        assert (await scenario.handle.result())["status"] == "undeliverable"
        keep("bounced", await scenario.handle.fetch_history())
        ended = await scenario.status()
        assert ended.reason == REPLY
        assert ended.emails[0].state == "bounced"
    assert mail_server.kinds(REQUESTER) == ["request-received", "undeliverable"]


async def test_other_bounces_are_only_shown(scenario: Scenario) -> None:
    received = Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER)
    never_sent = Email(kind=EmailKind.WELCOME, to=Addressee.CUSTOMER)
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.replace_approver(OTHER)
        await scenario.until(Status.PENDING, sent=3)
        await scenario.report_bounce(ACTIVATION, REPLY)
        await scenario.report_bounce(received, REPLY)
        await scenario.report_bounce(never_sent, REPLY)
        now = await scenario.until(Status.PENDING, sent=1)
        assert [(email.kind, email.state) for email in now.emails] == [
            ("activation", "bounced"),
            ("request-received", "bounced"),
            ("activation", "sent"),
        ]
        await scenario.accept()
        await scenario.until(Status.ACTIVE)
