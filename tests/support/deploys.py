"""Releases with changed workflow code, their workers, and the command that deploys."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.deployment.v1 import WorkerDeploymentVersion as VersionMessage
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from smart_accounts.admin import deploy
from smart_accounts.contract.messages import EmailState, RequestResult, SmartAccountRequest
from smart_accounts.contract.names import TASK_QUEUE, WORKFLOW_TYPE
from smart_accounts.contract.steps import Decision
from smart_accounts.settings import Settings
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.guard import worker_data_converter
from smart_accounts.temporal.listing import OPEN_EXECUTIONS
from smart_accounts.temporal.records import Started
from tests.support.patient_client import PatientClient
from tests.support.web_settings import client_settings
from worker import run_worker
from workflows import options, patches
from workflows.remaining_emails import RemainingEmailsWorkflow
from workflows.smart_account_request import SmartAccountRequestWorkflow

NAME = "smart-accounts"
V1, V2 = WorkerDeploymentVersion(NAME, "v1"), WorkerDeploymentVersion(NAME, "v2")
GETS_NO_TASKS = "this worker gets no tasks: it is {}, and the current version is {}"
CHECK = "smart-account-closed-deploy-"
PATCH = "a-moment-first"


@workflow.defn(name=WORKFLOW_TYPE)
class Unpatched(SmartAccountRequestWorkflow):
    """The next release, with a line too many in a step that open requests have behind them."""

    @workflow.run
    async def run(self, request: SmartAccountRequest) -> RequestResult:
        return await super().run(request)

    async def _check_and_open_provisional_account(self) -> Decision | None:
        await workflow.sleep(timedelta(milliseconds=1))
        return await super()._check_and_open_provisional_account()


@workflow.defn(name=WORKFLOW_TYPE)
class Patched(SmartAccountRequestWorkflow):
    """The next release, with the same line behind a patch."""

    @workflow.run
    async def run(self, request: SmartAccountRequest) -> RequestResult:
        return await super().run(request)

    async def _check_and_open_provisional_account(self) -> Decision | None:
        if workflow.patched(PATCH):
            await workflow.sleep(timedelta(milliseconds=1))
        return await super()._check_and_open_provisional_account()


@dataclass
class Deploys:
    """The workers of several versions, in this process, and the operator's command."""

    temporal: Client
    settings: Settings
    store: AccountStore
    monkeypatch: pytest.MonkeyPatch

    def release(self, request_workflow: type, *, not_active_yet: str = "") -> None:
        """Set the code of the workers that start next, and of the command."""
        workflows = (request_workflow, RemainingEmailsWorkflow)
        self.monkeypatch.setattr(options, "WORKFLOWS", workflows)
        self.monkeypatch.setattr(patches, "NOT_ACTIVE_YET", {not_active_yet})

    @asynccontextmanager
    async def worker(self, version: WorkerDeploymentVersion | None = None) -> AsyncIterator[None]:
        config = self.temporal.config()
        config["data_converter"] = worker_data_converter(client_settings())
        async with run_worker(Client(**config), self.settings, self.store, version=version):
            yield

    @asynccontextmanager
    async def worker_without_activities(
        self, version: WorkerDeploymentVersion
    ) -> AsyncIterator[None]:
        """Run a worker that has asked for workflows' tasks, but not yet for activities."""
        config = WorkerDeploymentConfig(
            version=version,
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
        )
        worker = Worker(
            self.temporal,
            task_queue=TASK_QUEUE,
            deployment_config=config,
            **options.workflow_options(),
        )
        request = DescribeWorkerDeploymentVersionRequest(
            namespace=self.temporal.namespace,
            deployment_version=VersionMessage(
                deployment_name=version.deployment_name, build_id=version.build_id
            ),
        )
        service = self.temporal.workflow_service
        async with worker:
            async with asyncio.timeout(40):
                while True:
                    with suppress(RPCError):  # not found
                        known = await service.describe_worker_deployment_version(request)
                        if known.version_task_queues:
                            break
                    await asyncio.sleep(0.5)  # Temporal limits the rate of this call
            yield

    async def deploy(self, version: WorkerDeploymentVersion, *, dry_run: bool = False) -> None:
        """Run the command, with the settings of this version's workers."""
        self.monkeypatch.setenv("TEMPORAL_DEPLOYMENT_NAME", version.deployment_name)
        self.monkeypatch.setenv("TEMPORAL_WORKER_BUILD_ID", version.build_id)
        await inspect.unwrap(deploy.deploy)(dry_run=dry_run)

    @property
    def requests(self) -> PatientClient:
        return PatientClient(self.temporal)

    async def open_request(self, example: dict[str, Any], domain: str) -> Started:
        """Start a request and wait until it waits for the customer."""
        changes = {"account_domain": f"{domain}.example", "customer_email": f"a@{domain}.example"}
        request = SmartAccountRequest.model_validate(example | changes)
        started = await self.requests.start(request)
        async with asyncio.timeout(40):
            while True:
                now = await self.requests.status(started.workflow_id)
                if [each.state for each in now.emails] == [EmailState.SENT] * 2:
                    return started
                await asyncio.sleep(0.05)

    async def result(self, started: Started) -> Any:
        async with asyncio.timeout(60):
            return await self.temporal.get_workflow_handle(started.workflow_id).result()

    async def failed_tasks(self, started: Started) -> list[str]:
        history = await self.temporal.get_workflow_handle(started.workflow_id).fetch_history()
        return [
            event.workflow_task_failed_event_attributes.failure.message
            for event in history.events
            if event.HasField("workflow_task_failed_event_attributes")
        ]

    async def has_patch(self, started: Started) -> bool:
        history = await self.temporal.get_workflow_handle(started.workflow_id).fetch_history()
        markers = [event.marker_recorded_event_attributes for event in history.events]
        return any(marker.marker_name == "core_patch" for marker in markers)


async def until_listed(temporal: Client, number: int) -> None:
    """Wait until Temporal's list has so many open workflows. It is a little behind."""
    async with asyncio.timeout(40):
        while (await temporal.count_workflows(OPEN_EXECUTIONS)).count != number:
            await asyncio.sleep(0.05)
