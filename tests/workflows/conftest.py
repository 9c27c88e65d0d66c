"""A request on the time-skipping server, with the real activities, mail and store."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.accounts import AccountActivities
from activities.emails import EmailActivities
from smart_accounts.contract.messages import (
    ActionResult,
    NewApprover,
    RequestStatus,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.names import TASK_QUEUE
from smart_accounts.mail.compose import Composer, Site
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.settings import SmtpTls
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import Started
from smart_accounts.temporal.guard import GuardInterceptor, worker_data_converter
from smart_accounts.tokens import LinkTokens
from tests.support.read_model import status_in
from tests.support.real_parts import PatientClient
from workflows.remaining_emails import RemainingEmailsWorkflow
from workflows.smart_account_request import SmartAccountRequestWorkflow

KEY = "a-key-for-tests-that-is-long-enough-to-be-one"
BASE_URL = "https://accounts.example"
LIMITS = Limits(open_per_customer=5, starts_per_requester_per_hour=7)


class Story:
    """One request told over days; a worker runs inside ``async with story.worker()``."""

    def __init__(
        self, env: WorkflowEnvironment, store: AccountStore, mail_port: int, example: dict[str, Any]
    ) -> None:
        self.env = env
        self.store = store
        self.client = PatientClient(env.client)
        self._example = example
        self._mail_port = mail_port
        self.started: Started

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[Worker]:
        sender = SmtpSender(
            hostname="127.0.0.1",
            port=self._mail_port,
            username=None,
            password=None,
            tls=SmtpTls.NONE,
        )
        site = Site(
            base_url=BASE_URL,
            organisation_name="Smart Accounts",
            support_url=None,
            mail_from="no-reply@accounts.example",
        )
        accounts = AccountActivities(self.store, LIMITS)
        emails = EmailActivities(
            self.store, Composer(site), sender, LinkTokens([KEY]), BASE_URL, "bounces.example"
        )
        config = self.env.client.config()
        config["data_converter"] = worker_data_converter
        async with Worker(
            Client(**config),
            task_queue=TASK_QUEUE,
            workflows=[SmartAccountRequestWorkflow, RemainingEmailsWorkflow],
            activities=[
                accounts.open_request,
                accounts.issue_link,
                accounts.activate_account,
                accounts.close_request,
                emails.send_emails,
            ],
            interceptors=[GuardInterceptor()],
            graceful_shutdown_timeout=timedelta(seconds=5),
            # Every task replays the history, so workflow code that is not deterministic fails here.
            max_cached_workflows=0,
            workflow_runner=UnsandboxedWorkflowRunner(),  # as in production
        ) as worker:
            yield worker
        await sender.aclose()

    async def start(self, **changes: Any) -> WorkflowHandle[Any, Any]:
        request = SmartAccountRequest.model_validate(self._example | changes)
        self.started = await self.client.start(request)
        return self.handle

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        return self.env.client.get_workflow_handle(
            self.started.workflow_id, run_id=self.started.request_id
        )

    async def status(self) -> RequestStatus:
        return await self.client.status(self.started.workflow_id, run_id=self.started.request_id)

    async def until(self, *statuses: Status, sent: int = 0) -> RequestStatus:
        """Wait, in real time, until the request stands so and ``sent`` emails are out."""
        async with asyncio.timeout(40):
            while True:
                now = await self.status()
                done = [each for each in now.emails if each.state == "sent"]
                if now.status in statuses and len(done) >= sent:
                    return now
                await asyncio.sleep(0.02)

    async def until_closed(self) -> None:
        """Unlike asking for the result, this leaves the clock alone."""
        async with asyncio.timeout(40):
            while (await self.handle.describe()).status == WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.02)

    async def pending_activities(self) -> list[Any]:
        return list((await self.handle.describe()).raw_description.pending_activities)

    async def now(self) -> datetime:
        return await self.env.get_current_time()

    async def sleep_until(self, moment: datetime) -> None:
        await self.env.sleep(moment - await self.now())

    async def let_pass(self, *moments: datetime) -> None:
        """Without a worker: the server skips no time while a workflow task waits for one."""
        await self.sleep_until(moments[0] - timedelta(seconds=1))
        async with asyncio.timeout(40):
            while await self.now() < moments[-1] + timedelta(seconds=0.5):
                await asyncio.sleep(0.1)

    async def replace(self, address: str) -> ActionResult:
        new = NewApprover(customer_email=address)
        return await self.client.replace_approver(self.started.workflow_id, new)

    async def agreed(self) -> RequestStatus:
        """What the workflow says, once seen that the store says the same."""
        told = await self.status()
        stored = await status_in(self.store, self.started.request_id)

        def facts(status: RequestStatus) -> tuple[RequestStatus, set[Any]]:
            emails = {
                (mail.kind, mail.recipient, mail.state, mail.answer) for mail in status.emails
            }
            return status.model_copy(update={"emails": (), "next_step": None}), emails

        assert facts(told) == facts(stored)
        return told

    async def stored(self) -> Status:
        request = await self.store.find_request(self.started.request_id)
        assert request
        return request.status


@pytest.fixture
async def env(free_port: Callable[[], int]) -> AsyncIterator[WorkflowEnvironment]:
    """A time-skipping server for each test. It starts in 0.2 s.

    Tests cannot share one, because a workflow that is terminated while it waits, or a child that
    outlives its parent, leaves the server's clock locked.
    """
    path = shutil.which("temporal-test-server", path=str(Path(sys.executable).parent))
    assert path
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, port=free_port(), test_server_existing_path=path
    ) as running:
        await running.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=running.client.namespace,
                search_attributes={
                    "SmartAccountStatus": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                    "SmartAccountDomain": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                    "SmartAccountDeadline": IndexedValueType.INDEXED_VALUE_TYPE_DATETIME,
                },
            )
        )
        yield running


@pytest.fixture
def story(
    env: WorkflowEnvironment, store: AccountStore, mail_server: Any, example: dict[str, Any]
) -> Story:
    return Story(env, store, mail_server.port, example)


@pytest.fixture
def limits() -> Limits:
    return LIMITS
