"""PostgreSQL ends without a word and is back after a while."""

import asyncio
import signal
from collections import Counter
from random import Random
from typing import Any

import httpx
import pytest
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent

from smart_accounts.contract.messages import EmailState, Status


def is_failed_task(event: HistoryEvent) -> bool:
    """A worker let it fail or never answered; one that was not taken in time is none."""
    timed_out = event.workflow_task_timed_out_event_attributes.timeout_type
    return (
        event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        or timed_out == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    )


@pytest.fixture
def any_database_url(postgres: Any) -> str:
    url: str = postgres.new_database()
    return url


@pytest.fixture
def service(service_on_any_database: Any) -> Any:
    return service_on_any_database


async def test_database_down(
    service: Any, postgres: Any, wish: Any, link_in: Any, chance: Random, full: bool
) -> None:
    await service.worker()
    requests = service.requests()
    waiting = await service.start(wish("waiting"))
    await service.until(waiting, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    service.mail.holds = True
    mailing = await service.start(wish("mailing"))
    address = await service.web()
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=address, timeout=30) as http:
        assert (await http.get(link)).status_code == 200
        while service.mail.held < 2:
            await asyncio.sleep(0.02)

        await postgres.down(signal.SIGQUIT)
        service.mail.holds = False
        starting = await service.start(wish("starting"))
        for each in chance.sample((waiting, starting), 2):
            await requests.accept(each.workflow_id)
        away = await http.get(link)
        assert (away.status_code, away.headers["Retry-After"]) == (503, "10")
    await asyncio.sleep(60 if full else 8)
    assert (await requests.status(waiting.workflow_id)).status == Status.ACTIVATING
    assert (await requests.status(mailing.workflow_id)).status == Status.PENDING
    assert (await requests.status(starting.workflow_id)).status == Status.REQUESTED
    assert len(service.mail.mails) == 4, "two requests' opening emails, each once"

    await postgres.up()
    await service.until(mailing, Status.PENDING, sent=2)
    await requests.accept(mailing.workflow_id)
    for each in (waiting, mailing, starting):
        assert (await service.handle(each).result())["status"] == Status.ACTIVE
        status = await requests.status(each.workflow_id)
        assert status.status == Status.ACTIVE
        kinds = {mail.kind for mail in status.emails if mail.state == EmailState.SENT}
        assert kinds >= {"activated", "welcome", "access-granted"}
        history = await service.handle(each).fetch_history()
        assert not any(map(is_failed_task, history.events))
    copies = Counter((mail["X-Smart-Account-Mail"], mail["To"]) for mail in service.mail.mails)
    assert set(copies.values()) == {1}

    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.get(link)).status_code == 200
        await postgres.down(signal.SIGQUIT)
        await postgres.up()  # a restart in which nobody asked for anything
        assert (await http.get(link)).status_code == 200
