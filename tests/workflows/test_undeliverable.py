"""Emails that are refused for good, for days, or come back."""

from datetime import timedelta
from typing import Any

import pytest
from temporalio.common import RetryPolicy

from smart_accounts.contract.messages import Addressee, Bounce, Email, EmailKind, Status
from workflows import mailing

DAY = timedelta(days=1)
CUSTOMER, REQUESTER, USER = "ada@acme.example", "pat@partner.example", "bo@acme.example"


async def test_refused_activation_email_ends_the_request(
    story: Any, mail_server: Any, ask: Any, keep: Any
) -> None:
    mail_server.refusals[CUSTOMER] = "550 5.1.1 no such user"
    async with story.worker():
        await story.start()
        result = await story.handle.result()
        assert result == {"status": "undeliverable", "reason": "550 5.1.1 no such user"}
        ended = await story.agreed()
        assert {mail.kind: mail.state for mail in ended.emails}["activation"] == "failed"
        told = await mail_server.wait_for("undeliverable", REQUESTER)
        text = told.get_body(("plain",)).get_content()
        assert CUSTOMER in text
        assert "no such user" in text
        keep("undeliverable", await story.handle.fetch_history())
        assert await ask("SELECT state FROM accounts") == [{"state": "closed"}]
        mail_server.refusals = {}
        await story.start()
        await story.until(Status.PENDING, sent=2)
    assert mail_server.attempts[CUSTOMER] == 2
    assert mail_server.kinds(CUSTOMER) == ["activation"]


async def test_new_approver_who_does_not_exist_ends_it_too(story: Any, mail_server: Any) -> None:
    mail_server.refusals["cy@acme.example"] = "550 no such user"
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await story.replace("cy@acme.example")
        assert (await story.handle.result())["status"] == "undeliverable"


@pytest.fixture
def rare_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try twice a day. With the real pause of ten minutes, five days are 700 tries."""
    policy = RetryPolicy(initial_interval=timedelta(hours=12), backoff_coefficient=1)
    monkeypatch.setitem(mailing.MAIL, "retry_policy", policy)


async def test_refusals_for_now_count_as_for_good_after_five_days(
    story: Any, mail_server: Any, rare_retries: None
) -> None:
    mail_server.refusals[CUSTOMER] = "451 4.2.2 mailbox full"
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=1)
        await story.sleep_until(pending.requested_at + 4.9 * DAY)
        assert (await story.status()).status == Status.PENDING
        await story.sleep_until(pending.requested_at + 5.6 * DAY)
        ended = await story.until(Status.UNDELIVERABLE)
        assert ended.reason == "451 4.2.2 mailbox full (for 5 days)"


async def test_own_mail_server_down_for_days_is_nobody_elses_fault(
    story: Any, mail_server: Any, rare_retries: None
) -> None:
    await mail_server.down()
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING)
        await story.env.sleep(5.6 * DAY)
        waiting = await story.status()
        assert waiting.status == Status.PENDING
        assert {mail.state for mail in waiting.emails} == {"queued"}
        [activity] = await story.pending_activities()
        assert "No mail server takes emails from us" in activity.last_failure.message
        await mail_server.up()
        await story.env.sleep(DAY / 2)
        await story.until(Status.PENDING, sent=2)
    assert sorted(mail_server.kinds()) == ["activation", "request-received"]


@pytest.mark.parametrize("who", [REQUESTER, USER])
async def test_email_to_anyone_else_never_stops_the_request(
    story: Any, mail_server: Any, who: str
) -> None:
    mail_server.refusals[who] = "550 no such user"
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=1)
        await story.client.accept(story.started.workflow_id)
        assert (await story.handle.result())["status"] == "active"
        final = await story.agreed()
    refused = [mail for mail in final.emails if mail.recipient == who]
    assert refused
    assert {(mail.state, mail.answer) for mail in refused} == {("failed", "550 no such user")}


async def bounce(story: Any, email: Email) -> None:
    await story.client.report_bounce(
        story.started.workflow_id,
        run_id=story.started.request_id,
        bounce=Bounce(email=email, answer="550 5.1.1 unknown"),
    )


async def test_bounced_activation_email_is_undeliverable(
    story: Any, mail_server: Any, keep: Any
) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await bounce(story, Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER))
        assert (await story.handle.result())["status"] == "undeliverable"
        keep("bounced", await story.handle.fetch_history())
        ended = await story.status()
        assert ended.reason == "550 5.1.1 unknown"
        assert ended.emails[0].state == "bounced"
    assert mail_server.kinds(REQUESTER) == ["request-received", "undeliverable"]


async def test_bounce_of_a_dead_link_or_of_another_email_only_shows(story: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await story.replace("cy@acme.example")
        await story.until(Status.PENDING, sent=3)
        await bounce(story, Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER))
        await bounce(story, Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER))
        await bounce(story, Email(kind=EmailKind.WELCOME, to=Addressee.CUSTOMER))  # never sent
        now = await story.until(Status.PENDING, sent=1)
        assert [(mail.kind, mail.state) for mail in now.emails] == [
            ("activation", "bounced"),
            ("request-received", "bounced"),
            ("activation", "sent"),
        ]
        await story.client.accept(story.started.workflow_id)
        await story.until(Status.ACTIVE)
