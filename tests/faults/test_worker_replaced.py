"""A worker dies, and another takes over what it had in its memory and in its hands."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.messages import EmailState, Status


@pytest.mark.parametrize("replaced", ["before", "after"])
async def test_acceptance_of_a_request_that_a_dead_worker_had_cached(
    service: Any, fresh: dict[str, Any], chance: Random, replaced: str
) -> None:
    worker = await service.worker()
    started = await service.start(fresh)
    await service.until(started, Status.PENDING, sent=2)
    if replaced == "before":
        await service.worker()
    await asyncio.sleep(chance.uniform(0, 1))
    await service.kill(worker)
    await service.requests().accept(started.workflow_id)
    if replaced == "after":
        await service.worker()
    await service.handle(started).result()
    history = await service.handle(started).fetch_history()
    happened = [(event.event_type, event.event_time.ToDatetime()) for event in history.events]
    kinds = [kind for kind, _ in happened]
    signalled = kinds.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
    (scheduled, began), (timed_out, ended) = happened[signalled + 1 : signalled + 3]
    assert (scheduled, timed_out) == (
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    ), "the task went to the dead worker"
    # A second, then any worker is asked; a busy machine gets more, Temporal's default is ten.
    assert (ended - began).total_seconds() < 5


async def test_emails_that_a_dead_worker_had_in_the_ledger_and_in_flight(
    service: Any, wish: Any, commits: Any, chance: Random
) -> None:
    mail = service.mail
    worker = await commits.worker(service)
    commits.arm("record")
    in_ledger = await service.start(wish("in-ledger"))
    assert await commits.stopped() == {"record": in_ledger.request_id}
    async with asyncio.timeout(40):
        while len(mail.mails) < 2:
            await asyncio.sleep(0.02)
        mail.holds = True
        in_flight = await service.start(wish("in-flight"))
        untrue = await service.start(wish("untrue"))
        while mail.held < 4:
            await asyncio.sleep(0.02)
    await service.requests().accept(untrue.workflow_id)
    await service.until(untrue, Status.ACTIVE)
    await service.worker()
    await asyncio.sleep(chance.uniform(0, 1))
    await service.kill(worker)
    mail.holds = False
    async with asyncio.timeout(60):  # the heartbeat's time-out, not the activity's half hour
        await service.until(in_ledger, Status.PENDING, sent=2)
        await service.until(in_flight, Status.PENDING, sent=2)
        await service.handle(untrue).result()
    sent = [each["Message-ID"].strip() for each in mail.mails]
    for started, copies in (in_ledger, [1, 1]), (in_flight, [2, 2]), (untrue, [1] * 5):
        own = Counter(name for name in sent if started.request_id in name)
        assert list(own.values()) == copies
    status = await service.requests().status(untrue.workflow_id)
    assert {each.state for each in status.emails} == {EmailState.SENT}
    assert len(status.emails) == 3, "the opening emails are no longer wanted"
