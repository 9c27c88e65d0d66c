"""Workers of the floors: what Temporal alone costs, without our effects.

Usage: ``python -m benchmarks.floors wait`` or ``… shape``

- ``wait`` runs a workflow that only waits for a signal or a timer.
- ``shape`` runs our workflow with activities that do nothing.
"""

import asyncio
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from smart_accounts.contract.messages import EmailState
from smart_accounts.contract.names import TASK_QUEUE
from smart_accounts.contract.steps import (
    Checked,
    Decision,
    EmailOutcome,
    OpenRequest,
    RecordDecision,
    SendEmails,
)
from smart_accounts.settings import load_client_settings
from smart_accounts.temporal.connection import connect
from smart_accounts.temporal.guard import worker_data_converter
from worker import MAX_CONCURRENT_ACTIVITIES, STICKY_TIMEOUT
from workflows.options import workflow_options
from workflows.patches import is_activated


@workflow.defn
class BareWait:
    """Waits for a signal, but no longer than it is told."""

    def __init__(self) -> None:
        self._is_accepted = False

    @workflow.run
    async def run(self, seconds: float) -> str:
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._is_accepted, timeout=timedelta(seconds=seconds)
            )
        return "active" if self._is_accepted else "lapsed"

    @workflow.signal
    def accepted(self) -> None:
        self._is_accepted = True


@activity.defn
async def open_request(_new: OpenRequest) -> Checked:
    return Checked(emails_first_locally=True)


@activity.defn
async def try_emails(batch: SendEmails) -> list[EmailOutcome]:
    return [EmailOutcome(state=EmailState.SENT, at=datetime.now(UTC))] * len(batch.emails)


@activity.defn
async def activate_account(record: RecordDecision) -> Decision:
    return record.decision


def worker_options(floor: str) -> dict[str, Any]:
    if floor == "wait":
        return {"workflows": [BareWait], "workflow_runner": UnsandboxedWorkflowRunner()}
    return {
        **workflow_options(),
        "patch_activation_callback": is_activated,
        "activities": [open_request, try_emails, activate_account],
        "max_concurrent_activities": MAX_CONCURRENT_ACTIVITIES,
    }


async def main(floor: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await connect(data_converter=worker_data_converter(load_client_settings()))
    async with Worker(
        client,
        task_queue=TASK_QUEUE,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        **worker_options(floor),
    ):
        print("worker ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
