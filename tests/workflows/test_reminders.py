"""The reminders to the customer, and the warning to the requester before the deadline."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.messages import EmailKind, Status
from tests.support.histories import Actions, Keep
from tests.support.mail_server import LinkIn, MailServer
from tests.support.scenario import CUSTOMER, DAY, REQUESTER, Scenario, text_of

ROOT = Path(__file__).parents[2]


async def test_ninety_days_without_an_answer(
    scenario: Scenario, mail_server: MailServer, link_in: LinkIn, keep: Keep
) -> None:
    async with scenario.worker():
        await scenario.start(user_emails=[])
        pending = await scenario.until(Status.PENDING, sent=2)
        for day, sent in ((29, 2), (31, 3), (59, 3), (61, 4), (82, 4), (84, 6), (88, 6), (89.5, 7)):
            await scenario.sleep_until(pending.requested_at + day * DAY)
            now = await scenario.until(Status.PENDING, sent=sent)
            assert len(now.emails) == sent, day
        await scenario.sleep_until(pending.deadline + timedelta(seconds=1))
        lapsed = await scenario.until(Status.LAPSED, sent=9)
        await scenario.until_closed()
        history = await scenario.handle.fetch_history()
    days = [
        f"day {round((email.at - pending.requested_at) / DAY):2}  {email.kind} to {email.recipient}"
        for email in sorted(lapsed.emails, key=lambda email: (email.at.date(), email.recipient))
    ]
    assert "\n".join(days) in (ROOT / "docs" / "timeline.md").read_text()
    [activation, *reminders, _] = [email for email in mail_server.emails if email["To"] == CUSTOMER]
    assert {link_in(email) for email in reminders} == {link_in(activation)}
    times_left = ["60 days left", "30 days left", "7 days left", "24 hours left"]
    for email, time_left in zip(reminders, times_left, strict=True):
        assert time_left in email["Subject"]
    keep("lapsed-with-local-emails", history)


async def test_cost_of_ninety_days(scenario: Scenario, actions: Actions) -> None:
    async with scenario.worker():
        await scenario.start(user_emails=[])
        await scenario.env.sleep(91 * DAY)  # without a query, which could split a task
        await scenario.until_closed()
        events = (await scenario.handle.fetch_history()).events
    assert (len(events), actions(events)) == (39, 13)


async def test_one_step_sends_both_emails_of_day_83(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=2)
        await scenario.sleep_until(pending.requested_at + 84 * DAY)
        await scenario.until(Status.PENDING, sent=6)
        events = (await scenario.handle.fetch_history()).events
    kind = EventType.EVENT_TYPE_MARKER_RECORDED
    assert sum(event.event_type == kind for event in events) == 5, "the checks, and 4 occasions"


async def test_reminders_stop_after_a_decision(scenario: Scenario, mail_server: MailServer) -> None:
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=2)
        await scenario.sleep_until(pending.requested_at + 31 * DAY)
        await scenario.until(Status.PENDING, sent=3)
        await scenario.decline()
        await scenario.until_closed()
        await scenario.env.sleep(60 * DAY)
    assert mail_server.kinds(CUSTOMER) == ["activation", "reminder"]
    assert mail_server.kinds(REQUESTER) == ["request-received", "declined"]


async def test_only_the_latest_reminder_is_sent_after_an_outage(
    scenario: Scenario, mail_server: MailServer
) -> None:
    reminders = ["PT10M", "PT10M1S", "PT10M2S", "PT1H"]
    async with scenario.worker():
        await scenario.start(reminders=reminders, acceptance_window="P6D")
        pending = await scenario.until(Status.PENDING, sent=2)
    first = pending.requested_at + timedelta(minutes=10)
    await scenario.pass_without_worker(first, first + timedelta(seconds=2))
    async with scenario.worker():
        now = await scenario.until(Status.PENDING, sent=3)
        assert [email.kind for email in now.emails].count(EmailKind.REMINDER) == 1
        await scenario.env.sleep(timedelta(hours=2))
        await scenario.until(Status.PENDING, sent=4)
    third, fourth = [email for email in mail_server.emails if "reminder" in email["Message-ID"]]
    assert "reminder.customer.3@" in third["Message-ID"]
    assert "reminder.customer.4@" in fourth["Message-ID"]


async def test_mail_server_outage_over_two_reminders_leaves_one(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start(reminders=["PT1H", "PT2H"], acceptance_window="P6D")
        await scenario.until(Status.PENDING, sent=2)
        await mail_server.stop()
        await scenario.env.sleep(timedelta(hours=3))
        waiting = await scenario.status()
        assert [email.state for email in waiting.emails if email.kind == "reminder"] == ["queued"]
        await mail_server.start()
        await scenario.env.sleep(timedelta(minutes=11))
        await scenario.until(Status.PENDING, sent=3)
    [reminder] = [email for email in mail_server.emails if "reminder" in email["Message-ID"]]
    assert "reminder.customer.2@" in reminder["Message-ID"]


async def test_unsent_activation_email_replaces_the_reminder(
    scenario: Scenario, mail_server: MailServer
) -> None:
    await mail_server.stop()
    async with scenario.worker():
        await scenario.start(reminders=["PT1H"], acceptance_window="P6D")
        await scenario.until(Status.PENDING)
        await scenario.env.sleep(timedelta(hours=2))
        await mail_server.start()
        await scenario.env.sleep(timedelta(minutes=11))
        await scenario.until(Status.PENDING, sent=2)
        await scenario.env.sleep(timedelta(hours=1))
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
async def test_short_window_leaves_out_emails_outside_it(
    scenario: Scenario, mail_server: MailServer, changes: dict[str, Any], expected: list[str]
) -> None:
    async with scenario.worker():
        await scenario.start(**changes)
        pending = await scenario.until(Status.PENDING, sent=2)
        await scenario.sleep_until(pending.deadline + timedelta(seconds=1))
        await scenario.until(Status.LAPSED, sent=4 + len(expected))
        await scenario.until_closed()
    sent = [kind for kind in mail_server.kinds() if kind in ("reminder", "expiring")]
    assert sorted(sent) == expected


async def test_requester_learns_of_a_refused_reminder(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start(reminders=["P1D"], acceptance_window="P10D")
        pending = await scenario.until(Status.PENDING, sent=2)
        mail_server.refusals[CUSTOMER] = "550 5.1.1 no such user"
        await scenario.sleep_until(pending.requested_at + 2 * DAY)
        refused = await scenario.until(Status.PENDING)
        assert [
            (email.state, email.answer) for email in refused.emails if email.kind == "reminder"
        ] == [("failed", "550 5.1.1 no such user")]
        await scenario.sleep_until(pending.requested_at + 3.5 * DAY)
        expiring = await mail_server.wait_for("expiring", REQUESTER)
        assert "550 5.1.1 no such user" in text_of(expiring)
        await scenario.accept()
        await scenario.until(Status.ACTIVE)


async def test_next_step_names_deadline_and_reminder(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=2)
        assert pending.next_step
        assert "Waits for the customer's answer until" in pending.next_step
        assert f"Next reminder {pending.requested_at + 30 * DAY:%Y-%m-%d}" in pending.next_step
        await scenario.sleep_until(pending.requested_at + 89.5 * DAY)
        last = await scenario.until(Status.PENDING, sent=7)
        assert last.next_step
        assert "Next reminder" not in last.next_step
        await scenario.accept()
        await scenario.handle.result()
        assert (await scenario.status()).next_step is None
