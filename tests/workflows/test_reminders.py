"""What is sent while nobody answers, and what is not."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.messages import Status

ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)
CUSTOMER, REQUESTER = "ada@acme.example", "pat@partner.example"


async def test_ninety_days_without_an_answer(
    story: Any, mail_server: Any, link_in: Any, keep: Any
) -> None:
    async with story.worker():
        await story.start(user_emails=[])
        pending = await story.until(Status.PENDING, sent=2)
        for day, sent in ((29, 2), (31, 3), (59, 3), (61, 4), (82, 4), (84, 6), (88, 6), (89.5, 7)):
            await story.sleep_until(pending.requested_at + day * DAY)
            now = await story.until(Status.PENDING, sent=sent)
            assert len(now.emails) == sent, day
        await story.sleep_until(pending.deadline + timedelta(seconds=1))
        lapsed = await story.until(Status.LAPSED, sent=9)
        await story.until_closed()
        history = await story.handle.fetch_history()
    days = [
        f"day {round((mail.at - pending.requested_at) / DAY):2}  {mail.kind} to {mail.recipient}"
        for mail in sorted(lapsed.emails, key=lambda mail: (mail.at.date(), mail.recipient))
    ]
    assert "\n".join(days) in (ROOT / "docs" / "timeline.md").read_text()
    [activation, *reminders, _] = [m for m in mail_server.mails if m["To"] == CUSTOMER]
    assert {link_in(mail) for mail in reminders} == {link_in(activation)}
    left = ["60 days left", "30 days left", "7 days left", "24 hours left"]
    for mail, words in zip(reminders, left, strict=True):
        assert words in mail["Subject"]
    keep("lapsed-with-reminders", history)


async def test_cost_of_ninety_days(story: Any, actions: Any) -> None:
    async with story.worker():
        await story.start(user_emails=[])
        await story.env.sleep(91 * DAY)  # no look in between: it could cut a task in two
        await story.until_closed()
        events = (await story.handle.fetch_history()).events
    assert (len(events), actions(events)) == (69, 15)


async def test_day_83_is_one_activity(story: Any) -> None:
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=2)
        await story.sleep_until(pending.requested_at + 84 * DAY)
        await story.until(Status.PENDING, sent=6)
        events = (await story.handle.fetch_history()).events
    kind = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    assert sum(event.event_type == kind for event in events) == 4


async def test_reminders_stop_with_the_decision(story: Any, mail_server: Any) -> None:
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=2)
        await story.sleep_until(pending.requested_at + 31 * DAY)
        await story.until(Status.PENDING, sent=3)
        await story.client.decline(story.started.workflow_id)
        await story.until_closed()
        await story.env.sleep(60 * DAY)
    assert mail_server.kinds(CUSTOMER) == ["activation", "reminder"]
    assert mail_server.kinds(REQUESTER) == ["request-received", "declined"]


async def test_after_an_outage_only_the_latest_is_sent(story: Any, mail_server: Any) -> None:
    reminders = ["PT10M", "PT10M1S", "PT10M2S", "PT1H"]
    async with story.worker():
        await story.start(reminders=reminders, acceptance_window="P6D")
        pending = await story.until(Status.PENDING, sent=2)
    first = pending.requested_at + timedelta(minutes=10)
    await story.let_pass(first, first + timedelta(seconds=2))
    async with story.worker():
        now = await story.until(Status.PENDING, sent=3)
        assert [mail.kind for mail in now.emails].count("reminder") == 1
        await story.env.sleep(timedelta(hours=2))
        await story.until(Status.PENDING, sent=4)
    third, fourth = [mail for mail in mail_server.mails if "reminder" in mail["Message-ID"]]
    assert "reminder.customer.3@" in third["Message-ID"]
    assert "reminder.customer.4@" in fourth["Message-ID"]


async def test_email_outage_over_two_reminders_leaves_one(story: Any, mail_server: Any) -> None:
    async with story.worker():
        await story.start(reminders=["PT1H", "PT2H"], acceptance_window="P6D")
        await story.until(Status.PENDING, sent=2)
        await mail_server.down()
        await story.env.sleep(timedelta(hours=3))
        waiting = await story.status()
        assert [mail.state for mail in waiting.emails if mail.kind == "reminder"] == ["queued"]
        await mail_server.up()
        await story.env.sleep(timedelta(minutes=11))
        await story.until(Status.PENDING, sent=3)
    [reminder] = [mail for mail in mail_server.mails if "reminder" in mail["Message-ID"]]
    assert "reminder.customer.2@" in reminder["Message-ID"]


async def test_activation_email_that_has_not_left_needs_no_reminder(
    story: Any, mail_server: Any
) -> None:
    await mail_server.down()
    async with story.worker():
        await story.start(reminders=["PT1H"], acceptance_window="P6D")
        await story.until(Status.PENDING)
        await story.env.sleep(timedelta(hours=2))
        await mail_server.up()
        await story.env.sleep(timedelta(minutes=11))
        await story.until(Status.PENDING, sent=2)
        await story.env.sleep(timedelta(hours=1))
    assert mail_server.kinds(CUSTOMER) == ["activation"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"acceptance_window": "PT40S"}, []),
        ({"acceptance_window": "P7D"}, []),
        ({"acceptance_window": "P30D"}, ["expiring"]),
        ({"acceptance_window": "P31D"}, ["expiring", "reminder"]),
        ({"acceptance_window": "P6D", "reminders": []}, []),
        ({"acceptance_window": "P6D", "reminders": ["PT0S", "P5D", "P6D", "P7D"]}, ["reminder"]),
    ],
    ids=str,
)
async def test_short_window_has_no_nonsense(
    story: Any, mail_server: Any, changes: dict[str, Any], expected: list[str]
) -> None:
    async with story.worker():
        await story.start(**changes)
        pending = await story.until(Status.PENDING, sent=2)
        await story.sleep_until(pending.deadline + timedelta(seconds=1))
        await story.until(Status.LAPSED, sent=4 + len(expected))
        await story.until_closed()
    sent = [kind for kind in mail_server.kinds() if kind in ("reminder", "expiring")]
    assert sorted(sent) == expected


async def test_requester_is_told_of_a_reminder_that_was_refused(
    story: Any, mail_server: Any
) -> None:
    async with story.worker():
        await story.start(reminders=["P1D"], acceptance_window="P10D")
        pending = await story.until(Status.PENDING, sent=2)
        mail_server.refusals[CUSTOMER] = "552 mailbox full"
        await story.sleep_until(pending.requested_at + 2 * DAY)
        refused = await story.until(Status.PENDING)
        assert [(m.state, m.answer) for m in refused.emails if m.kind == "reminder"] == [
            ("failed", "552 mailbox full")
        ]
        await story.sleep_until(pending.requested_at + 3.5 * DAY)
        told = await mail_server.wait_for("expiring", REQUESTER)
        assert "552 mailbox full" in told.get_body(("plain",)).get_content()
        await story.client.accept(story.started.workflow_id)
        await story.until(Status.ACTIVE)


async def test_next_step_says_what_comes(story: Any) -> None:
    async with story.worker():
        await story.start()
        pending = await story.until(Status.PENDING, sent=2)
        assert "Waits for the customer's answer until" in pending.next_step
        assert f"Next reminder {pending.requested_at + 30 * DAY:%Y-%m-%d}" in pending.next_step
        await story.sleep_until(pending.requested_at + 89.5 * DAY)
        last = await story.until(Status.PENDING, sent=7)
        assert "Next reminder" not in last.next_step
        await story.client.accept(story.started.workflow_id)
        await story.handle.result()
        assert (await story.status()).next_step is None
