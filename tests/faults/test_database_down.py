"""PostgreSQL is killed and comes back after a while."""

import asyncio
import signal
from collections import Counter
from random import Random

import httpx
import pytest
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent

from smart_accounts.contract.messages import EmailState, Status
from tests.faults.conftest import RequestFor
from tests.support.mail_server import LinkIn
from tests.support.postgres import Postgres
from tests.support.service import Service


def is_failed_task(event: HistoryEvent) -> bool:
    """Return True if a worker failed a workflow task or never completed it.

    A task that no worker started in time does not count.
    """
    timed_out = event.workflow_task_timed_out_event_attributes.timeout_type
    return (
        event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        or timed_out == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
    )


@pytest.fixture
def any_database_url(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def service(service_on_any_database: Service) -> Service:
    return service_on_any_database


async def test_database_down(
    service: Service,
    postgres: Postgres,
    request_for: RequestFor,
    link_in: LinkIn,
    rng: Random,
    full: bool,
) -> None:
    await service.start_worker()
    requests = service.requests()
    waiting = await service.start(request_for("waiting"))
    await service.wait_for(waiting, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    service.mail.hold_replies = True
    mailing = await service.start(request_for("mailing"))
    address = await service.start_web()
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=address, timeout=30) as http:
        assert (await http.get(link)).status_code == 200
        while service.mail.held < 2:
            await asyncio.sleep(0.02)

        await postgres.stop(signal.SIGQUIT)
        service.mail.hold_replies = False
        starting = await service.start(request_for("starting"))
        for each in rng.sample((waiting, starting), 2):
            await requests.accept(each.workflow_id)
        response = await http.get(link)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
    await asyncio.sleep(60 if full else 8)
    assert (await requests.status(waiting.workflow_id)).status == Status.ACTIVATING
    assert (await requests.status(mailing.workflow_id)).status == Status.PENDING
    assert (await requests.status(starting.workflow_id)).status == Status.REQUESTED
    assert len(service.mail.emails) == 4, "the opening emails of two requests, each sent once"

    await postgres.start()
    await service.wait_for(mailing, Status.PENDING, sent=2)
    await requests.accept(mailing.workflow_id)
    for each in (waiting, mailing, starting):
        assert (await service.handle(each).result())["status"] == Status.ACTIVE
        status = await requests.status(each.workflow_id)
        assert status.status == Status.ACTIVE
        kinds = {mail.kind for mail in status.emails if mail.state == EmailState.SENT}
        assert kinds >= {"activated", "welcome", "access-granted"}
        history = await service.handle(each).fetch_history()
        assert not any(map(is_failed_task, history.events))
    copies = Counter((mail["X-Smart-Account-Mail"], mail["To"]) for mail in service.mail.emails)
    assert set(copies.values()) == {1}

    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.get(link)).status_code == 200
        await postgres.stop(signal.SIGQUIT)
        await postgres.start()  # nothing used the database during this restart
        assert (await http.get(link)).status_code == 200
