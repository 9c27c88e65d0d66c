"""One request over days, with the real workflows, activities, store and emails."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Any, Protocol, TypeVar

from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from smart_accounts.contract.actions import (
    ActionResult,
    Actor,
    NewApprover,
    Role,
    Withdrawal,
)
from smart_accounts.contract.messages import RequestStatus, SmartAccountRequest, Status
from smart_accounts.contract.steps import Bounce, Email
from smart_accounts.settings import Settings
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.guard import worker_data_converter
from smart_accounts.temporal.records import Started
from tests.support.patient_client import PatientClient
from tests.support.read_model import status_in
from tests.support.web_settings import client_settings
from worker import run_worker

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
CUSTOMER, REQUESTER, USER = "ada@acme.example", "pat@partner.example", "bo@acme.example"
OTHER = "cy@acme.example"

Result = TypeVar("Result")


class Run(Protocol):
    """Runs a coroutine to its end and returns its result."""

    def __call__(self, coroutine: Coroutine[Any, Any, Result], /) -> Result: ...


class Scenario:
    """One request, and the time that passes. A worker runs inside ``async with worker()``."""

    def __init__(
        self,
        env: WorkflowEnvironment,
        store: AccountStore,
        settings: Settings,
        example: dict[str, Any],
    ) -> None:
        self.env = env
        self.store = store
        self.client = PatientClient(env.client)
        self._settings = settings
        self._example = example
        self.started: Started

    @asynccontextmanager
    async def worker(self, *, cached: int = 0) -> AsyncIterator[Worker]:
        """Run a worker that may have so many workflows in its cache.

        Without a cache, every task replays the history, so that workflow code fails here if it is
        not deterministic. But two workflows that run local activities at the same moment evict each
        other, and wait ten seconds for their next tasks.
        """
        config = self.env.client.config()
        config["data_converter"] = worker_data_converter(client_settings())
        client = Client(**config)
        async with run_worker(
            client, self._settings, self.store, max_cached_requests=cached
        ) as worker:
            yield worker

    # ---- what people do ------------------------------------------------------------------

    async def start(self, **changes: Any) -> WorkflowHandle[Any, Any]:
        request = SmartAccountRequest.model_validate(self._example | changes)
        self.started = await self.client.start(request)
        return self.handle

    async def accept(self, accepted_by: str | None = None) -> None:
        await self.client.accept(self.started.workflow_id, accepted_by=accepted_by)

    async def decline(self, reason: str | None = None) -> None:
        await self.client.decline(self.started.workflow_id, reason=reason)

    async def resend(self) -> ActionResult:
        return await self.client.resend(self.started.workflow_id)

    async def replace_approver(self, address: str) -> ActionResult:
        new = NewApprover(customer_email=address)
        return await self.client.replace_approver(self.started.workflow_id, new)

    async def withdraw(self, reason: str | None = None) -> ActionResult:
        return await self.client.withdraw(self.started.workflow_id, Withdrawal(reason=reason))

    async def withdraw_as_operator(self, reason: str | None = None) -> ActionResult:
        by = Actor(role=Role.OPERATOR, subject="opal")
        withdrawal = Withdrawal(reason=reason, by=by)
        return await self.client.withdraw(self.started.workflow_id, withdrawal)

    async def report_bounce(self, email: Email, reply: str) -> None:
        bounce = Bounce(email=email, answer=reply)
        started = self.started
        await self.client.report_bounce(
            started.workflow_id, run_id=started.request_id, bounce=bounce
        )

    # ---- what became of it ---------------------------------------------------------------

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        return self.env.client.get_workflow_handle(
            self.started.workflow_id, run_id=self.started.request_id
        )

    async def status(self) -> RequestStatus:
        return await self.client.status(self.started.workflow_id, run_id=self.started.request_id)

    async def until(self, *statuses: Status, sent: int = 0) -> RequestStatus:
        """Wait, in real time, until the request has a status and ``sent`` emails were sent."""
        async with asyncio.timeout(40):
            while True:
                now = await self.status()
                done = [email for email in now.emails if email.state == "sent"]
                if now.status in statuses and len(done) >= sent:
                    return now
                await asyncio.sleep(0.02)

    async def until_all_sent(self) -> None:
        """Wait, in real time, until no email is being sent. Call this before a random event.

        An event may cancel the sending, also of the email to operators. If the activity ends during
        the workflow task that cancels it, the time-skipping server loses that task
        (ACTIVITY_UNKNOWN) and the request hangs. The dev server does not, so test_in_flight.py
        makes these races there.
        """
        async with asyncio.timeout(40):
            while any(email.state == "queued" for email in (await self.status()).emails):
                await asyncio.sleep(0.02)
        await self.until_retried()

    async def until_retried(self) -> None:
        """Wait, in real time, until the first attempt of each pending activity has ended."""
        async with asyncio.timeout(40):
            while any(each.attempt <= 1 for each in await self.pending_activities()):
                await asyncio.sleep(0.02)

    async def until_closed(self) -> None:
        """Wait for the end of the workflow. Waiting for its result would skip time as well."""
        async with asyncio.timeout(40):
            while (await self.handle.describe()).status == WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.02)

    async def accepted_updates(self) -> int:
        history = await self.handle.fetch_history()
        return sum(
            event.HasField("workflow_execution_update_accepted_event_attributes")
            for event in history.events
        )

    async def pending_activities(self) -> list[PendingActivityInfo]:
        return list((await self.handle.describe()).raw_description.pending_activities)

    async def stored(self) -> StoredRequest:
        request = await self.store.requests.find(self.started.request_id)
        assert request
        return request

    async def status_as_stored(self) -> RequestStatus:
        """Return the status that the workflow has, after checking that the store has it too."""
        now = await self.status()
        stored = await status_in(self.store, self.started.request_id)

        def facts(status: RequestStatus) -> tuple[RequestStatus, set[Any]]:
            emails = {
                (email.kind, email.recipient, email.state, email.answer) for email in status.emails
            }
            return status.model_copy(update={"emails": (), "next_step": None}), emails

        assert facts(now) == facts(stored)
        return now

    # ---- time ----------------------------------------------------------------------------

    async def now(self) -> datetime:
        return await self.env.get_current_time()

    async def sleep_until(self, moment: datetime) -> None:
        await self.env.sleep(moment - await self.now())

    async def pass_without_worker(self, *moments: datetime) -> None:
        """Let moments pass while no worker runs.

        The last second takes real time, because the server skips no time while a workflow task
        waits for a worker.
        """
        await self.sleep_until(moments[0] - timedelta(seconds=1))
        async with asyncio.timeout(40):
            while await self.now() < moments[-1] + timedelta(seconds=0.5):
                await asyncio.sleep(0.1)


def email_states(status: RequestStatus) -> dict[tuple[str, str], str]:
    """Return the state of each email, by kind and recipient."""
    return {(email.kind.value, email.recipient): email.state.value for email in status.emails}


def text_of(email: EmailMessage) -> str:
    """Return the text part of an email."""
    body = email.get_body(("plain",))
    assert body
    return str(body.get_content())
