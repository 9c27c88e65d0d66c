"""A worker is killed, and another worker takes over its requests and its emails in flight."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

import httpx
import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.actions import ActionMessage
from smart_accounts.contract.messages import EmailState, Status
from smart_accounts.contract.names import closing_id
from tests.faults.conftest import CommitTraps, RequestFor
from tests.support.mail_server import LinkIn
from tests.support.partner_site import CLOSING
from tests.support.service import Service
from tests.support.store import Query


@pytest.mark.parametrize("replaced", ["before", "after"])
async def test_new_worker_takes_over_cached_request(
    service: Service, new_request: dict[str, Any], rng: Random, replaced: str
) -> None:
    worker = await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    if replaced == "before":
        await service.start_worker()
    await asyncio.sleep(rng.uniform(0, 1))
    await service.kill(worker)
    await service.requests().accept(started.workflow_id)
    if replaced == "after":
        await service.start_worker()
    await service.handle(started).result()
    history = await service.handle(started).fetch_history()
    times = [(event.event_type, event.event_time.ToDatetime()) for event in history.events]
    kinds = [kind for kind, _ in times]
    signalled = kinds.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
    (scheduled, began), (timed_out, ended) = times[signalled + 1 : signalled + 3]
    if timed_out == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
        return  # Temporal had not noticed yet that the worker's open poll was dead
    assert (scheduled, timed_out) == (
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    ), "the task went to the dead worker"
    # The sticky timeout is 1 s. A busy machine gets more; Temporal's default would be 10 s.
    assert (ended - began).total_seconds() < 5


async def test_answer_counts_although_its_link_was_lost_with_the_worker(
    service: Service, new_request: dict[str, Any], link_in: LinkIn, query_service: Query
) -> None:
    """The worker is killed while it sends the second email. The first one has the link."""
    service.mail.slow_recipients.add(new_request["requester"]["email"])
    worker = await service.start_worker()
    await service.start_web()
    started = await service.start(new_request)
    link = link_in(await service.mail.wait_for("activation"))
    await service.kill(worker)
    async with httpx.AsyncClient(timeout=30) as http:
        form = {"reason": "Who are you?", "report": "yes"}
        assert (await http.post(f"{link}/decline", data=form)).status_code == 303
    service.mail.slow_recipients.clear()
    await service.start_worker()
    async with asyncio.timeout(60):
        assert (await service.handle(started).result())["status"] == "declined"
    [stored] = await query_service("SELECT reason, is_reported FROM requests")
    assert (stored["reason"], bool(stored["is_reported"])) == (form["reason"], True)


async def test_new_worker_takes_over_emails(
    service: Service, request_for: RequestFor, commit_traps: CommitTraps, rng: Random
) -> None:
    mail = service.mail
    worker = await commit_traps.start_worker(service)
    commit_traps.set("record")
    in_ledger = await service.start(request_for("in-ledger"))
    assert await commit_traps.wait_until_caught() == {"record": in_ledger.request_id}
    async with asyncio.timeout(40):
        while len(mail.emails) < 2:
            await asyncio.sleep(0.02)
        mail.hold_replies = True
        in_flight = await service.start(request_for("in-flight"))
        outdated = await service.start(request_for("outdated"))
        while mail.held < 4:
            await asyncio.sleep(0.02)
    await service.requests().accept(outdated.workflow_id)
    await service.wait_for(outdated, Status.ACTIVE)
    await service.start_worker()
    await asyncio.sleep(rng.uniform(0, 1))
    await service.kill(worker)
    mail.hold_replies = False
    async with asyncio.timeout(60):  # the heartbeat timeout, not the half hour of the activity
        await service.wait_for(in_ledger, Status.PENDING, sent=2)
        await service.wait_for(in_flight, Status.PENDING, sent=2)
        await service.handle(outdated).result()
    sent = [each["Message-ID"].strip() for each in mail.emails]
    for started, copies in (in_ledger, [1, 1]), (in_flight, [2, 2]), (outdated, [1] * 5):
        own = Counter(name for name in sent if started.request_id in name)
        assert list(own.values()) == copies
    status = await service.requests().status(outdated.workflow_id)
    assert {each.state for each in status.emails} == {EmailState.SENT}
    assert len(status.emails) == 3, "the outdated opening emails are not listed"


async def test_closing_is_recorded_once(
    service: Service, new_request: dict[str, Any], commit_traps: CommitTraps, query_service: Query
) -> None:
    worker = await commit_traps.start_worker(service)
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    await service.requests().accept(started.workflow_id)
    await service.handle(started).result()
    commit_traps.set("close_account")
    closing = CLOSING.model_copy(update={"account_domain": new_request["account_domain"]})
    received = await service.requests().close(started.request_id, closing)
    assert received.message == ActionMessage.CLOSE_RECEIVED
    await commit_traps.wait_until_caught()
    recorded = await query_service("SELECT closed_at FROM requests")
    await service.kill(worker)
    commit_traps.remove()
    await service.start_worker()
    closed = service.temporal.get_workflow_handle(closing_id(started.request_id))
    async with asyncio.timeout(60):
        await closed.result()
    assert await query_service("SELECT closed_at FROM requests") == recorded
    assert service.mail.kinds().count("closed") == 3
