"""Note for the worker's log which request an activity is about.

This is not in ``logs``, because other programs would then import Temporal's worker, which takes a
while.
"""

from typing import Any

from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from smart_accounts.temporal.logs import request_id_of_activity


class LogInterceptor(Interceptor):
    """Note which request an activity is about."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002 - Temporal's name
        return _NoteRequestId(next)


class _NoteRequestId(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002 - Temporal's name
        for arg in input.args[:1]:
            id_ = arg if isinstance(arg, str) else getattr(arg, "request_id", None)
            request_id_of_activity.set(id_)
        return await super().execute_activity(input)
