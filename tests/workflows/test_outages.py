"""The mail server or the database is down: the request goes on and loses nothing."""

import asyncio
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.errors import Unavailable
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, DAY, MINUTE, REQUESTER, USER, Scenario, email_states


async def test_mail_server_is_down_for_hours(
    scenario: Scenario, mail_server: MailServer, full: bool
) -> None:
    await mail_server.stop()
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING)
        await scenario.env.sleep(DAY / 2 if full else DAY / 12)
        waiting = await scenario.status()
        assert waiting.status == Status.PENDING
        assert set(email_states(waiting).values()) == {"queued"}
        await mail_server.start()
        await scenario.env.sleep(11 * MINUTE)
        await scenario.until(Status.PENDING, sent=2)
    assert sorted(mail_server.kinds()) == ["activation", "request-received"]


async def test_refused_email_does_not_delay_the_others(
    scenario: Scenario, mail_server: MailServer
) -> None:
    mail_server.refusals[REQUESTER] = "451 try again later"
    async with scenario.worker():
        await scenario.start()
        pending = await scenario.until(Status.PENDING, sent=1)
        assert email_states(pending) == {
            ("activation", CUSTOMER): "sent",
            ("request-received", REQUESTER): "queued",
        }
        await scenario.until_retried()
        async with asyncio.timeout(40):
            await scenario.accept()
            await scenario.until(Status.ACTIVE)
        await mail_server.wait_for("welcome", CUSTOMER)
        await mail_server.wait_for("access-granted", USER)
        del mail_server.refusals[REQUESTER]
        await scenario.handle.result()
        final = email_states(await scenario.status())
    assert ("request-received", REQUESTER) not in final
    assert mail_server.kinds(REQUESTER) == ["activated"]


async def test_details_during_the_activation(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: Any) -> Any:
        raise Unavailable("The database does not answer.")

    async def details() -> str:
        metadata = await scenario.handle.query("__temporal_workflow_metadata")
        return str(metadata.current_details)

    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        with monkeypatch.context() as outage:
            outage.setattr(scenario.store.requests, "activate", unavailable)
            await scenario.accept()
            await scenario.until(Status.ACTIVATING)
            first, *others = (await details()).split("\n\n")
            assert first.endswith(": activating."), "the decision is not the end"
            assert others == ["The decision is being recorded: active."]
        await scenario.until(Status.ACTIVE)
        assert ": active since " in await details()


async def test_database_outage_adds_few_events(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: Any) -> Any:
        raise Unavailable("The database does not answer.")

    async def count_events() -> int:
        return len((await scenario.handle.fetch_history()).events)

    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        with monkeypatch.context() as outage:
            outage.setattr(scenario.store.requests, "activate", unavailable)
            await scenario.accept()
            await scenario.env.sleep(11 * MINUTE)  # now the pauses have their full length
            before = await count_events()
            await scenario.env.sleep(20 * MINUTE)
            per_hour = 3 * (await count_events() - before)
        await scenario.env.sleep(5 * MINUTE)  # the next try
        assert (await scenario.handle.result())["status"] == "active"
    assert 50 <= per_hour <= 95, "Temporal ends a run at 51,200 events"
