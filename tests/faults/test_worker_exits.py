"""A worker that is told to stop ends cleanly, each time."""

import subprocess
import sys
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from tests.support.real_parts import ROOT, stop


@pytest.mark.timeout(300)
async def test_worker_ends_with_status_0_each_time(service: Any, wish: Any, full: bool) -> None:
    for number in range(10 if full else 2):
        # Not forked: only an interpreter of its own can crash while it finalizes.
        with subprocess.Popen(
            [sys.executable, "worker.py"], cwd=ROOT, env=service.environment
        ) as worker:
            started = await service.start(wish(f"stop-{number}"))
            await service.until(started, Status.PENDING, sent=2)
            assert await stop(worker) == 0
