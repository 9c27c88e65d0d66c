"""The whole life of a request with real processes, both databases and a mail server."""

import asyncio
import signal
import sqlite3
from contextlib import closing
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.runtime import Runtime

import worker
from smart_accounts.contract.messages import Status
from smart_accounts.settings import Settings
from smart_accounts.temporal import client
from smart_accounts.temporal.closing import first_task
from smart_accounts.temporal.records import Started
from tests.support.histories import Actions, Keep
from tests.support.keys import KEY
from tests.support.mail_server import LinkIn
from tests.support.ports import FreePort
from tests.support.service import Service


async def events_of(service: Service, started: Started) -> list[HistoryEvent]:
    """Return the history without tasks that the worker of a busy machine did not start in time."""
    events = (await service.handle(started).fetch_history()).events
    timed_out = {
        event.workflow_task_timed_out_event_attributes.scheduled_event_id: event.event_id
        for event in events
        if event.workflow_task_timed_out_event_attributes.timeout_type
        == TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
    }
    return [event for event in events if event.event_id not in {*timed_out, *timed_out.values()}]


async def test_accept_path_and_its_cost(
    service: Service,
    new_request: dict[str, Any],
    link_in: LinkIn,
    actions: Actions,
    keep: Keep,
) -> None:
    del new_request["user_emails"]
    await service.start_worker()
    address = await service.start_web()
    started = await service.start(new_request)
    await first_task(service.handle(started))  # a query could split it
    waiting = await events_of(service, started)
    size = sum(event.ByteSize() for event in waiting)
    assert len(waiting) <= 8, [EventType.Name(event.event_type)[11:] for event in waiting]
    assert size <= 2.2 * 1024

    link = link_in(await service.mail.wait_for("activation"))
    async with httpx.AsyncClient(base_url=address, follow_redirects=True, timeout=30) as http:
        assert new_request["account_name"] in (await http.get(link)).text
        assert (await http.post(link, data={"agree": "yes"})).status_code == 200
        await service.handle(started).result()
        active = await service.wait_for(started, Status.ACTIVE, sent=4)
        assert "Smart Account is active" in (await http.get(link)).text
    assert active.decided_by == new_request["customer_email"]

    keep("accepted-with-local-emails", await service.handle(started).fetch_history())
    events = await events_of(service, started)
    assert len(events) <= 16
    assert actions(events) <= 6
    changes = EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
    assert [event.event_type for event in events].count(changes) == 1


async def test_first_query_does_not_split_the_first_task(
    service: Service, new_request: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "QUERY_TIMEOUT", timedelta(seconds=40))
    await service.start_worker()
    path = service.database_url.partition("///")[2]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # locks the database, so that the first step waits
        started = await service.start(new_request)
        outcome = asyncio.create_task(service.requests().outcome(started))
        await asyncio.sleep(1)
        other.execute("ROLLBACK")
    status = await outcome
    assert status
    assert status.status == Status.PENDING
    kinds = [event.event_type for event in await events_of(service, started)]
    first = kinds[: kinds.index(EventType.EVENT_TYPE_MARKER_RECORDED)]
    assert first.count(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED) == 1


async def test_lapse_path_and_its_cost(
    service: Service, new_request: dict[str, Any], keep: Keep
) -> None:
    del new_request["user_emails"]
    await service.start_worker()
    started = await service.start(new_request | {"acceptance_window": "PT12S"})
    await service.handle(started).result()
    lapsed = await service.wait_for(started, Status.LAPSED, sent=4)
    assert lapsed.decided_at
    assert lapsed.decided_at >= lapsed.deadline
    keep("lapsed", await service.handle(started).fetch_history())
    assert len(await events_of(service, started)) <= 15


async def test_decline_path(
    service: Service,
    new_request: dict[str, Any],
    link_in: LinkIn,
    keep: Keep,
) -> None:
    await service.start_worker()
    address = await service.start_web()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    async with httpx.AsyncClient(base_url=address, follow_redirects=True, timeout=30) as http:
        response = await http.post(f"{link}/decline", data={"reason": "We know no such partner."})
        assert response.status_code == 200
        declined = await service.wait_for(started, Status.DECLINED, sent=3)
    assert declined.reason == "We know no such partner."
    await service.handle(started).result()
    keep("declined", await service.handle(started).fetch_history())


async def test_path_on_each_database(
    service_on_any_database: Service, new_request: dict[str, Any], link_in: LinkIn
) -> None:
    service = service_on_any_database
    await service.start_worker()
    address = await service.start_web()
    started = await service.start(new_request)
    link = link_in(await service.mail.wait_for("activation"))
    async with httpx.AsyncClient(base_url=address, follow_redirects=True, timeout=30) as http:
        await http.post(link, data={"agree": "yes"})
        await service.wait_for(started, Status.ACTIVE, sent=5)
        page = await http.get(link)
    assert new_request["user_emails"][0] in page.text
    again = await service.start(new_request)
    assert (await service.handle(again).result())["status"] == "rejected"


async def test_mail_server_that_first_refuses_and_then_accepts(
    service_on_any_database: Service, new_request: dict[str, Any]
) -> None:
    service = service_on_any_database
    service.mail.refusals = dict.fromkeys(
        (new_request["customer_email"], new_request["requester"]["email"]), "451 greylisted"
    )
    await service.start_worker()
    started = await service.start(new_request)
    async with asyncio.timeout(40):
        while service.mail.attempts[new_request["customer_email"]] < 2:
            await asyncio.sleep(0.05)
    assert not service.mail.emails
    service.mail.refusals = {}
    await service.wait_for(started, Status.PENDING, sent=2)
    assert sorted(service.mail.kinds()) == ["activation", "request-received"]


async def test_connection_cut_after_the_final_dot(
    service_on_any_database: Service, new_request: dict[str, Any]
) -> None:
    service = service_on_any_database
    service.mail.disconnect_next = chain(repeat(True, 2), repeat(False))
    await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    copies = [mail["Message-ID"] for mail in service.mail.emails]
    assert len(copies) == 4, "each email was cut off once, so there are two copies of each"
    assert len(set(copies)) == 2


async def test_worker_ends_with_status_0(service: Service, new_request: dict[str, Any]) -> None:
    worker = await service.start_worker(
        Path(__file__).with_name("worker_that_reports_finalization.py")
    )
    await service.wait_for(await service.start(new_request), Status.PENDING, sent=2)
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 40) == 0, service.log
    # The SDK's threads crash about one in eight interpreters that finalize.
    assert "the interpreter was finalized" not in service.log


async def test_worker_stops_while_the_mail_server_hangs(
    service: Service, new_request: dict[str, Any], free_port: FreePort
) -> None:
    async def never_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the worker closes the connection
        writer.close()

    hanging = await asyncio.start_server(never_reply, "127.0.0.1", free_port())
    port = hanging.sockets[0].getsockname()[1]
    worker = await service.start_worker(SMART_ACCOUNTS_SMTP_PORT=str(port))
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING)
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 40) == 0
    hanging.close()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"SMART_ACCOUNTS_SECRET_KEYS": "short"}, "SMART_ACCOUNTS_SECRET_KEYS"),
        ({"SMART_ACCOUNTS_PUBLIC_URL": ""}, "SMART_ACCOUNTS_PUBLIC_URL"),
        ({"SMART_ACCOUNTS_SMTP_TLS": "ssl"}, "SMART_ACCOUNTS_SMTP_TLS"),
        ({"SMART_ACCOUNTS_DATABASE_URL": "mysql://x"}, "SMART_ACCOUNTS_DATABASE_URL"),
        ({"SMART_ACCOUNTS_MAIL_FROM": "nobody"}, "SMART_ACCOUNTS_MAIL_FROM"),
        ({"TEMPORAL_NAMESPACE": "bare"}, "SmartAccountStatus"),
        ({"TEMPORAL_NAMESPACE": "none"}, "no namespace none"),
        ({"TEMPORAL_DEPLOYMENT_NAME": "smart-accounts"}, "TEMPORAL_WORKER_BUILD_ID"),
    ],
)
@pytest.mark.parametrize("program", [["worker.py"], ["-m", "smart_accounts.web"]], ids=str)
async def test_bad_setting_stops_the_program_in_one_line(
    service: Service, program: list[str], changes: dict[str, str], name: str
) -> None:
    if program != ["worker.py"] and any(each.startswith("TEMPORAL_") for each in changes):
        return  # only the worker has a version, and depends on the search attributes
    if "TEMPORAL_NAMESPACE" in changes:
        await service.server.cli("operator", "namespace", "create", "bare")  # unless it exists
    process = service.launch(*program, **changes)
    assert await asyncio.to_thread(process.wait, 60) == 2
    lines = [line for line in service.log.splitlines() if " INFO " not in line]
    assert len(lines) == 1
    assert name in lines[0]
    assert all(value not in lines[0] for value in changes.values() if len(value) > 4) or (
        name == "SmartAccountStatus"
    )


async def test_waiting_for_services_does_not_leak_tasks(
    free_port: FreePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RETRY_EVERY", timedelta(seconds=0.01))
    nowhere = f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/nothing"
    settings = Settings(
        _env_file=None,
        public_url="https://accounts.example",
        secret_keys=KEY,
        smtp_hostname="127.0.0.1",
        mail_from="no-reply@accounts.example",
        database_url=nowhere,
    )
    before, stop = len(asyncio.all_tasks()), asyncio.Event()
    waiting = asyncio.create_task(worker.wait_for_services(settings, stop, Runtime.default()))
    await asyncio.sleep(1)
    assert len(asyncio.all_tasks()) <= before + 4, "the task itself and its parts"
    stop.set()
    assert await waiting is None
