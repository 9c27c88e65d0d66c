"""The sweep, which a schedule starts: compare the store with Temporal, then purge old requests."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.erasure import ErasureActivities
    from activities.sweep import SweepActivities
    from smart_accounts.contract.names import SWEEP_TYPE
    from smart_accounts.contract.steps import Sweep, Swept


OPTIONS = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=30),
    # The next sweep does what this one could not.
    retry_policy=RetryPolicy(maximum_attempts=3),
)


@workflow.defn(name=SWEEP_TYPE)
class SweepWorkflow:
    @workflow.run
    async def run(self, sweep: Sweep) -> Swept:
        swept = await workflow.execute_activity_method(
            SweepActivities.sweep,
            sweep,
            **(OPTIONS | {"summary": "Compare the store with Temporal"}),
        )
        if swept.is_held:  # perhaps this is the wrong namespace, which has no history to delete
            return swept
        await workflow.execute_activity_method(
            ErasureActivities.purge_ended_requests,
            **(OPTIONS | {"summary": "Purge requests that ended long ago"}),
        )
        return swept
