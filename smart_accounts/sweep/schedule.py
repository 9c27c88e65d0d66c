"""The schedule that starts the sweep."""

import logging
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.names import SWEEP_ID, SWEEP_TYPE, TASK_QUEUE
from smart_accounts.contract.steps import Sweep
from smart_accounts.temporal.errors import translate_errors

SWEEP_EVERY = timedelta(minutes=15)
LONGEST_SWEEP = timedelta(hours=1)  # a sweep that hangs must not stop the next ones

_log = logging.getLogger(__name__)


async def schedule_sweep(client: Client) -> None:
    """Create or update the schedule. An operator's pause of it stays.

    Raises:
        Unavailable: Temporal does not respond.
    """
    action = ScheduleActionStartWorkflow(
        SWEEP_TYPE,
        Sweep(),
        id=SWEEP_ID,
        task_queue=TASK_QUEUE,
        execution_timeout=LONGEST_SWEEP,
        static_summary="Compare the store with Temporal",
    )
    # By default, a sweep is skipped while the last one runs.
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=SWEEP_EVERY)])

    def update(known: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = known.description.schedule
        schedule.action, schedule.spec = action, spec
        return ScheduleUpdate(schedule=schedule)

    with translate_errors():
        try:
            try:
                await client.create_schedule(SWEEP_ID, Schedule(action=action, spec=spec))
            except ScheduleAlreadyRunningError:
                await client.get_schedule_handle(SWEEP_ID).update(update)
        except RPCError as error:
            if error.status not in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED):
                raise
            _log.warning("Temporal does not let us schedule the sweep: %s", error.status.name)
