"""A worker that is told to stop exits cleanly."""

import subprocess
import sys

import pytest

from smart_accounts.contract.messages import Status
from tests.faults.conftest import RequestFor
from tests.support.programs import stop_process
from tests.support.service import ROOT, Service


@pytest.mark.timeout(300)
async def test_stopped_worker_exits_with_status_0(
    service: Service, request_for: RequestFor, full: bool
) -> None:
    for number in range(10 if full else 2):
        # Not forked, because only an interpreter of its own can crash while it finalizes.
        with subprocess.Popen(
            [sys.executable, "worker.py"], cwd=ROOT, env=service.environment
        ) as worker:
            try:
                started = await service.start(request_for(f"stop-{number}"))
                await service.wait_for(started, Status.PENDING, sent=2)
                assert await stop_process(worker) == 0
            finally:
                worker.kill()
