"""A client that repeats calls, because a busy machine may miss the product's two seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from smart_accounts.contract.actions import ActionResult, Closing
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import RequestStatus, SmartAccountRequest
from smart_accounts.contract.names import workflow_id
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.sweep import executions
from smart_accounts.temporal import erasures, starting
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.records import RunningRequest, Started

Result = TypeVar("Result")


class PatientClient(RequestClient):
    """Repeats starts, signals, closings and queries while Temporal is unavailable.

    A rejection after a call without a response means that Temporal had received that call.
    """

    async def start(
        self,
        request: SmartAccountRequest,
        *,
        key: str | None = None,
        owner: Identity | None = None,
    ) -> Started:
        timed_out = False

        async def start_or_find() -> Started:
            nonlocal timed_out
            try:
                return await super(PatientClient, self).start(request, key=key, owner=owner)
            except Unavailable:
                timed_out = True
                raise
            except Rejected:
                if not timed_out:
                    raise
                return await self.find_running(workflow_id(request.account_domain))

        return await retry(start_or_find)

    async def find_running(
        self, workflow_id: str, *, run_id: str | None = None, owner: Identity | None = None
    ) -> RunningRequest:
        find = super().find_running
        return await retry(lambda: find(workflow_id, run_id=run_id, owner=owner))

    async def close(self, request_id: str, new: Closing) -> ActionResult:
        close = super().close
        return await retry(lambda: close(request_id, new))

    async def status(self, workflow_id: str, *, run_id: str | None = None) -> RequestStatus:
        query = super().status
        return await retry(lambda: query(workflow_id, run_id=run_id))

    async def _signal(self, workflow_id: str, run_id: str | None, name: str, message: Any) -> None:
        timed_out = False

        async def signal() -> None:
            nonlocal timed_out
            try:
                await super(PatientClient, self)._signal(workflow_id, run_id, name, message)
            except Unavailable:
                timed_out = True
                raise
            except NotFound:
                if not timed_out:
                    raise

        await retry(signal)


def wait_for_busy_temporal(patch: pytest.MonkeyPatch) -> None:
    """Give starts, sweeps and erasures in this process more than the product's two seconds."""
    for module in (starting, executions, erasures):
        patch.setattr(module, "RPC_TIMEOUT", timedelta(seconds=40))


async def retry(call: Callable[[], Awaitable[Result]], seconds: float = 20) -> Result:
    """Repeat a call while the service is unavailable, but not for longer than ``seconds``."""
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except Unavailable:
            if time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(0.05)
