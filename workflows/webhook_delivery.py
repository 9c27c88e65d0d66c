"""The delivery of the events that wait for one webhook endpoint, until none waits."""

from contextlib import suppress
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.webhooks import WebhookActivities
    from smart_accounts.contract.field_errors import FieldError
    from smart_accounts.contract.names import WEBHOOK_DELIVERY_TYPE, webhook_delivery_id
    from smart_accounts.contract.webhooks import Delivered, DeliverWebhooks
    from smart_accounts.temporal.guard import invalid_request
    from smart_accounts.text import utc

OPTIONS = workflow.ActivityConfig(
    # It ends by itself after some minutes. The email to the owner may take ten minutes more.
    start_to_close_timeout=timedelta(minutes=30),
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=1)),
    summary="Deliver what is due",
)
SHORTEST_PAUSE = timedelta(seconds=1)  # limits how fast the history grows


@workflow.defn(name=WEBHOOK_DELIVERY_TYPE)
class WebhookDeliveryWorkflow:
    def __init__(self) -> None:
        self._has_new = False

    @workflow.run
    async def run(self, deliver: DeliverWebhooks) -> None:
        _check_workflow_id(deliver.endpoint_id)
        while True:
            self._has_new = False
            delivered: Delivered = await workflow.execute_activity_method(
                WebhookActivities.deliver_webhooks, deliver, **OPTIONS
            )
            if delivered.next_at:
                await self._wait_until(delivered.next_at)
            elif not self._has_new:
                return
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(deliver)

    @workflow.signal
    def deliveries_waiting(self) -> None:
        self._has_new = True

    async def _wait_until(self, moment: datetime) -> None:
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._has_new,
                timeout=max(moment - workflow.now(), SHORTEST_PAUSE),
                timeout_summary=f"Next try {utc(moment)}",
            )


def _check_workflow_id(endpoint_id: str) -> None:
    """Check that this is the only workflow of its endpoint. Any Temporal client can start one."""
    if workflow.info().workflow_id != webhook_delivery_id(endpoint_id):
        message = "does not belong to the workflow id"
        raise invalid_request([FieldError(field="endpoint_id", message=message)])
