"""Requests as Temporal has them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.names import DEADLINE, DOMAIN, STATUS
from smart_accounts.temporal.codec import UnknownKey
from smart_accounts.temporal.memo import request_id_in

GONE = (
    WorkflowExecutionStatus.TERMINATED,
    WorkflowExecutionStatus.FAILED,
    WorkflowExecutionStatus.TIMED_OUT,
    WorkflowExecutionStatus.CANCELED,
)
"""The workflow has closed without a result. Every end of a request has one."""


@dataclass(frozen=True)
class Started:
    """A request that Temporal has recorded. ``request_id`` is its run id.

    For a request started just now, ``requested_at`` is this machine's time, a moment before
    Temporal's.
    """

    workflow_id: str
    request_id: str
    requested_at: datetime


@dataclass(frozen=True)
class RunningRequest(Started):
    """An open request with its start input. No worker needs to have seen it.

    ``owner`` is the requester, or None if another client of Temporal started the request.
    """

    request: SmartAccountRequest
    owner: Identity | None

    @property
    def deadline(self) -> datetime:
        return self.requested_at + self.request.acceptance_window


@dataclass(frozen=True)
class Listed:
    """One request in the list of Temporal's visibility store.

    After a reset, ``request_id`` is the new run's id, because the list does not have the first one.
    """

    workflow_id: str
    request_id: str
    status: Status | None
    account_domain: str | None
    deadline: datetime | None
    requested_at: datetime

    @classmethod
    async def of(cls, execution: WorkflowExecution) -> Self:
        attributes = execution.typed_search_attributes
        status = attributes.get(STATUS)  # another client may have set any text
        try:
            request_id = await request_id_in(execution)
        except UnknownKey:  # any client can name a key, and the other requests must be listed
            request_id = execution.run_id
        return cls(
            workflow_id=execution.id,
            request_id=request_id,
            status=Status(status) if status in list(Status) else None,
            account_domain=attributes.get(DOMAIN),
            deadline=attributes.get(DEADLINE),
            requested_at=execution.start_time,
        )
