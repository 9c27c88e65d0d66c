"""What runs the workflows. A worker and the replay before a deploy must have the same."""

from collections.abc import Sequence
from typing import TypedDict

from temporalio.worker import Interceptor, UnsandboxedWorkflowRunner, WorkflowRunner

from smart_accounts.temporal.guard import GuardInterceptor
from smart_accounts.temporal.log_interceptor import LogInterceptor
from smart_accounts.temporal.rate_limit import EmailRateInterceptor
from workflows.remaining_emails import RemainingEmailsWorkflow
from workflows.smart_account_request import SmartAccountRequestWorkflow
from workflows.sweep import SweepWorkflow
from workflows.webhook_delivery import WebhookDeliveryWorkflow

WORKFLOWS: tuple[type, ...] = (
    SmartAccountRequestWorkflow,
    RemainingEmailsWorkflow,
    SweepWorkflow,
    WebhookDeliveryWorkflow,
)


class WorkflowOptions(TypedDict):
    """Arguments of both ``Worker`` and ``Replayer``. Both also take the client's converter."""

    workflows: Sequence[type]
    interceptors: Sequence[Interceptor]
    workflow_runner: WorkflowRunner


def workflow_options() -> WorkflowOptions:
    return WorkflowOptions(
        workflows=WORKFLOWS,
        interceptors=[GuardInterceptor(), LogInterceptor(), EmailRateInterceptor()],
        # The sandbox would double the worker's CPU time. A test runs the workflows in it instead.
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
