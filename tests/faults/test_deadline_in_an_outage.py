"""A deadline that passes while Temporal or the worker is away."""

import asyncio
import signal
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.messages import Status
from smart_accounts.errors import Unavailable


async def until_past(deadline: datetime) -> None:
    await asyncio.sleep((deadline - datetime.now(UTC)).total_seconds() + 1)


async def test_deadline_that_passes_while_temporal_is_down(
    service: Any, fresh: dict[str, Any], chance: Random
) -> None:
    await service.worker()
    started = await service.start(fresh | {"acceptance_window": f"PT{chance.randint(12, 14)}S"})
    pending = await service.until(started, Status.PENDING, sent=2)
    await service.server.down(signal.SIGKILL)
    assert datetime.now(UTC) < pending.deadline
    await until_past(pending.deadline)
    with pytest.raises(Unavailable):
        await service.requests().check()
    assert "lapsed" not in service.mail.kinds()
    await service.server.up()
    assert (await service.handle(started).result())["status"] == Status.LAPSED
    lapsed = await service.requests().status(started.workflow_id)
    assert lapsed.decided_at > pending.deadline
    assert service.mail.kinds().count("lapsed") == 2


async def test_acceptance_and_expiry_that_both_wait_for_a_worker(
    service: Any, fresh: dict[str, Any], chance: Random, ask_service: Any
) -> None:
    worker = await service.worker()
    started = await service.start(fresh | {"acceptance_window": f"PT{chance.randint(12, 14)}S"})
    pending = await service.until(started, Status.PENDING, sent=2)
    await service.kill(worker)
    await service.requests().accept(started.workflow_id)
    assert datetime.now(UTC) < pending.deadline
    await until_past(pending.deadline)
    history = await service.handle(started).fetch_history()
    kinds = [event.event_type for event in history.events]
    last_word = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    unseen = kinds[len(kinds) - kinds[::-1].index(last_word) :]
    assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED in unseen
    assert EventType.EVENT_TYPE_TIMER_FIRED in unseen
    await service.worker()
    assert (await service.handle(started).result())["status"] == Status.ACTIVE
    assert await ask_service("SELECT state FROM accounts") == [{"state": "active"}]
    assert "lapsed" not in service.mail.kinds()


async def test_acceptance_after_a_lapse_that_only_the_database_knows(
    service: Any, fresh: dict[str, Any], commits: Any, ask_service: Any
) -> None:
    worker = await commits.worker(service)
    commits.arm("close")
    started = await service.start(fresh | {"acceptance_window": "PT3S"})
    assert await commits.stopped() == {"close": started.request_id}
    await service.kill(worker)
    assert await ask_service("SELECT status FROM requests") == [{"status": "lapsed"}]
    await service.requests().accept(started.workflow_id)
    await service.worker()
    await service.handle(started).result()
    status = await service.requests().status(started.workflow_id)
    assert status.status == Status.LAPSED
