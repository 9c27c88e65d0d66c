"""Emails in flight when the customer decides, and a Temporal server that does not respond."""

import asyncio
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import PauseActivityRequest, ResetActivityRequest

from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.errors import Unavailable
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.connection import connect
from tests.support.ports import FreePort
from tests.support.service import Service


async def test_decision_while_an_email_is_in_flight(
    service: Service, new_request: dict[str, Any]
) -> None:
    service.mail.hold_replies = True
    await service.start_worker()
    started = await service.start(new_request)
    async with asyncio.timeout(40):
        while service.mail.held < 2:
            await asyncio.sleep(0.02)
    await service.requests().accept(started.workflow_id)
    await service.wait_for(started, Status.ACTIVE)
    await asyncio.sleep(
        13
    )  # more than the heartbeat timeout, so that the activity would be lost without heartbeats
    service.mail.hold_replies = False
    await service.handle(started).result()
    final = await service.requests().status(started.workflow_id)
    states = {mail.kind: mail.state for mail in final.emails}
    assert states[EmailKind.ACTIVATION] == EmailState.SENT
    assert service.mail.kinds().count("activation") == 1


@pytest.mark.parametrize(
    ("method", "message"),
    [("reset_activity", ResetActivityRequest), ("pause_activity", PauseActivityRequest)],
)
async def test_operator_resets_or_pauses_an_email_in_flight(
    service: Service, new_request: dict[str, Any], method: str, message: Any
) -> None:
    service.mail.hold_replies = True
    await service.start_worker()
    started = await service.start(new_request)
    handle = service.handle(started)
    async with asyncio.timeout(40):
        while True:  # an activity that is paused before it starts never sends a heartbeat
            pending = (await handle.describe()).raw_description.pending_activities
            if pending and pending[0].HasField("last_heartbeat_time"):
                break
            await asyncio.sleep(0.02)
    [mailing] = pending
    execution = WorkflowExecution(workflow_id=started.workflow_id)
    request = message(namespace="default", execution=execution, id=mailing.activity_id)
    await getattr(service.temporal.workflow_service, method)(request)
    # The response to a heartbeat tells the worker.
    beats: set[int] = set()
    async with asyncio.timeout(40):
        while len(beats) < 3:
            for each in (await handle.describe()).raw_description.pending_activities:
                beats.add(each.last_heartbeat_time.ToNanoseconds())
            await asyncio.sleep(0.1)
    service.mail.hold_replies = False
    await service.wait_for(started, Status.PENDING, sent=2)
    assert sorted(service.mail.kinds()) == ["activation", "request-received"]
    assert sum(service.mail.attempts.values()) == 2


async def test_temporal_that_accepts_connections_and_does_not_respond(
    free_port: FreePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", free_port())
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{port}")
    client = RequestClient(await connect(lazy=True))
    try:
        async with asyncio.timeout(10):  # promised are 2 s
            await client.accept("smart-account-acme.example")
    except Unavailable:
        pass
    else:
        raise AssertionError("the call succeeded without a response")
    finally:
        server.close()


async def test_every_heartbeat_of_an_email_in_flight_reaches_temporal(
    service: Service, new_request: dict[str, Any]
) -> None:
    service.mail.hold_replies = True
    await service.start_worker()
    started = await service.start(new_request)
    beats: set[float] = set()
    async with asyncio.timeout(60):
        while len(beats) < 3:
            description = (await service.handle(started).describe()).raw_description
            [mailing] = description.pending_activities or [None]
            if mailing and mailing.HasField("last_heartbeat_time"):
                beats.add(mailing.last_heartbeat_time.ToMilliseconds() / 1000)
            await asyncio.sleep(0.1)
    service.mail.hold_replies = False
    first, second, third = sorted(beats)
    assert max(second - first, third - second) < 7, "less than the heartbeat timeout of 10 s"
