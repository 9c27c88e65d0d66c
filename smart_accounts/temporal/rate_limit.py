"""Let the rate limit of the task queue count the emails, and only the emails."""

from typing import Any

from temporalio.worker import (
    Interceptor,
    StartActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle

SEND_EMAILS = "send_emails"


class _Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:  # noqa: A002 - Temporal's name
        # A worker starts most activities itself, without the task queue and its rate limit. That
        # is good for `issue_link`, which must not wait for the emails of others.
        if input.activity == SEND_EMAILS:
            input.disable_eager_execution = True
        return super().start_activity(input)


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class EmailRateInterceptor(Interceptor):
    """Send emails only through the task queue, where an operator can limit their rate."""

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - Temporal's signature
    ) -> type[WorkflowInboundInterceptor]:
        return _Inbound
