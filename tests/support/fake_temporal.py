"""A client of Temporal that keeps its calls in memory, for tests of the web application."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from smart_accounts.contract.actions import (
    ActionResult,
    Actor,
    Closing,
    NewApprover,
    Review,
    Withdrawal,
)
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import RequestStatus, SmartAccountRequest, Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.contract.steps import Bounce
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.records import RunningRequest, Started


class FakeTemporal(RequestClient):
    """Accepts starts, signals and updates as Temporal does."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[RunningRequest, str | None]] = {}
        """The open request of each workflow id, with its idempotency key."""
        self.signals: list[tuple[str, dict[str, Any]]] = []
        self.bounces: list[tuple[str, str, Bounce]] = []
        self.actions: list[tuple[str, str | None, str, str | None]] = []
        """The name of each action, its argument, the workflow id and the run id."""
        self.actors: list[Actor | None] = []
        """Who did each of the requester's actions."""
        self.error: Exception | None = None
        """Raised by every call."""
        self.action_error: Exception | None = None
        """Raised by actions."""
        self.action_result = ActionResult(status=Status.PENDING, message="Done.")
        """Returned by actions."""
        self.live_status: RequestStatus | None = None
        """The status that a worker returns, or None if no worker responds."""

    async def check(self) -> None:
        if self.error:
            raise self.error

    async def start(
        self,
        request: SmartAccountRequest,
        *,
        key: str | None = None,
        owner: Identity | None = None,
    ) -> Started:
        await self.check()
        id_ = workflow_id(request.account_domain)
        if id_ not in self.running:
            now = datetime.now(UTC)
            self.running[id_] = RunningRequest(id_, str(uuid4()), now, request, owner), key
        running, used_key = self.running[id_]
        if used_key != key:
            raise Rejected(f"A request for {request.account_domain} is already under way.")
        return Started(running.workflow_id, running.request_id, running.requested_at)

    async def find_running(
        self, workflow_id: str, *, run_id: str | None = None, owner: Identity | None = None
    ) -> RunningRequest:
        await self.check()
        running, _ = self.running.get(workflow_id, (None, None))
        if running is None or run_id not in (None, running.request_id):
            raise NotFound("There is no open request with this id.")
        if owner not in (None, running.owner):
            raise NotFound("There is no open request with this id.")
        return running

    async def status(self, workflow_id: str, *, run_id: str | None = None) -> RequestStatus:
        if self.live_status is None:
            raise Unavailable("no worker")
        return self.live_status

    async def accept(self, workflow_id: str, **sent: Any) -> None:
        await self._send("accepted", workflow_id=workflow_id, **sent)

    async def decline(self, workflow_id: str, **sent: Any) -> None:
        await self._send("declined", workflow_id=workflow_id, **sent)

    async def report_bounce(self, workflow_id: str, *, run_id: str, bounce: Bounce) -> None:
        await self.check()
        self.bounces.append((workflow_id, run_id, bounce))

    async def resend(
        self, workflow_id: str, *, run_id: str | None = None, by: Actor | None = None
    ) -> ActionResult:
        self.actors.append(by)
        return await self._act("resend", None, workflow_id, run_id)

    async def replace_approver(
        self, workflow_id: str, new: NewApprover, *, run_id: str | None = None
    ) -> ActionResult:
        self.actors.append(new.by)
        return await self._act("replace-approver", new.customer_email, workflow_id, run_id)

    async def withdraw(
        self, workflow_id: str, withdrawal: Withdrawal, *, run_id: str | None = None
    ) -> ActionResult:
        self.actors.append(withdrawal.by)
        return await self._act("withdraw", withdrawal.reason, workflow_id, run_id)

    async def review(
        self, workflow_id: str, review: Review, *, run_id: str | None = None
    ) -> ActionResult:
        return await self._act(review.decision, review.reason, workflow_id, run_id)

    async def close(self, request_id: str, new: Closing) -> ActionResult:
        return await self._act("close", new.reason, new.by.subject, request_id)

    async def _send(self, name: str, **sent: Any) -> None:
        await self.check()
        self.signals.append((name, sent))

    async def _act(self, *action: Any) -> ActionResult:
        await self.check()
        if self.action_error:
            raise self.action_error
        self.actions.append(action)
        return self.action_result
