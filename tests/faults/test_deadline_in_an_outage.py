"""The deadline passes while Temporal or the worker is down."""

import asyncio
import signal
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.messages import Status
from smart_accounts.errors import Unavailable
from tests.faults.conftest import CommitTraps
from tests.support.service import Service
from tests.support.store import Query


async def wait_until_past(deadline: datetime) -> None:
    await asyncio.sleep((deadline - datetime.now(UTC)).total_seconds() + 1)


async def test_deadline_passes_while_temporal_is_down(
    service: Service, new_request: dict[str, Any], rng: Random
) -> None:
    await service.start_worker()
    started = await service.start(new_request | {"acceptance_window": f"PT{rng.randint(12, 14)}S"})
    pending = await service.wait_for(started, Status.PENDING, sent=2)
    await service.server.stop(signal.SIGKILL)
    assert datetime.now(UTC) < pending.deadline
    await wait_until_past(pending.deadline)
    with pytest.raises(Unavailable):
        await service.requests().check()
    assert "lapsed" not in service.mail.kinds()
    await service.server.start()
    assert (await service.handle(started).result())["status"] == Status.LAPSED
    lapsed = await service.requests().status(started.workflow_id)
    assert lapsed.decided_at
    assert lapsed.decided_at > pending.deadline
    assert service.mail.kinds().count("lapsed") == 2


async def test_acceptance_wins_over_deadline_while_worker_is_down(
    service: Service, new_request: dict[str, Any], rng: Random, query_service: Query
) -> None:
    worker = await service.start_worker()
    started = await service.start(new_request | {"acceptance_window": f"PT{rng.randint(12, 14)}S"})
    pending = await service.wait_for(started, Status.PENDING, sent=2)
    await service.kill(worker)
    await service.requests().accept(started.workflow_id)
    assert datetime.now(UTC) < pending.deadline
    await wait_until_past(pending.deadline)
    kinds: list[EventType.ValueType] = []
    async with asyncio.timeout(40):
        while EventType.EVENT_TYPE_TIMER_FIRED not in kinds:
            history = await service.handle(started).fetch_history()
            kinds = [event.event_type for event in history.events]
            await asyncio.sleep(0.05)
    completed = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    unseen = kinds[len(kinds) - kinds[::-1].index(completed) :]
    assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED in unseen
    assert EventType.EVENT_TYPE_TIMER_FIRED in unseen
    await service.start_worker()
    assert (await service.handle(started).result())["status"] == Status.ACTIVE
    assert await query_service("SELECT state FROM accounts") == [{"state": "active"}]
    assert "lapsed" not in service.mail.kinds()


async def test_acceptance_after_lapse_is_committed_changes_nothing(
    service: Service,
    new_request: dict[str, Any],
    commit_traps: CommitTraps,
    query_service: Query,
) -> None:
    worker = await commit_traps.start_worker(service)
    commit_traps.set("close")
    started = await service.start(new_request | {"acceptance_window": "PT3S"})
    assert await commit_traps.wait_until_caught() == {"close": started.request_id}
    await service.kill(worker)
    assert await query_service("SELECT status FROM requests") == [{"status": "lapsed"}]
    await service.requests().accept(started.workflow_id)
    await service.start_worker()
    await service.handle(started).result()
    status = await service.requests().status(started.workflow_id)
    assert status.status == Status.LAPSED
