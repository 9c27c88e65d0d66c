"""A worker that is told to stop ends cleanly, each time."""

import asyncio
import signal
from typing import Any

import pytest

from smart_accounts.messages import Status


@pytest.mark.timeout(300)
async def test_worker_ends_with_status_0_each_time(service: Any, wish: Any, full: bool) -> None:
    for number in range(10 if full else 2):
        worker = await service.worker()
        if number % 2 == 0:
            started = await service.start(wish(f"stop-{number}"))
            await service.until(started, Status.PENDING, sent=2)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 40) == 0, service.log
