"""Deploys and rollbacks while requests are open, with the real command on a real server."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.workflowservice.v1 import DescribeTaskQueueResponse
from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowHistory,
)
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.admin import deploy
from smart_accounts.admin.replay import replay_open_executions
from smart_accounts.contract.messages import (
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.names import TASK_QUEUE
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.settings import Settings
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal import deployment
from smart_accounts.temporal.deployment import (
    current_version,
    has_workers,
    log_missing_tasks,
    set_current_version,
    version_with_tasks,
)
from smart_accounts.temporal.listing import OPEN_EXECUTIONS
from smart_accounts.temporal.records import Started
from tests.support.deploys import (
    CHECK,
    GETS_NO_TASKS,
    NAME,
    PATCH,
    V1,
    V2,
    Deploys,
    Patched,
    Unpatched,
    until_listed,
)
from tests.support.keys import KEY
from tests.support.mail_server import MailServer
from tests.support.service import Service
from tests.support.store import Query
from tests.support.temporal_server import (
    DevServer,
    NewDevServer,
    connect,
    terminate_open_workflows,
)
from workflows.smart_account_request import SmartAccountRequestWorkflow


@pytest.fixture(scope="module")
async def dev_server(new_dev_server: NewDevServer) -> AsyncIterator[DevServer]:
    """A server of this file, because a current version takes the tasks from all other workers."""
    server = new_dev_server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="module")
async def temporal(dev_server: DevServer) -> Client:
    return await connect(dev_server)


@pytest.fixture(autouse=True)
async def end_without_versions(temporal: Client) -> AsyncIterator[None]:
    yield
    async with asyncio.timeout(40):
        while (await temporal.count_workflows(OPEN_EXECUTIONS)).count:
            await terminate_open_workflows(temporal)
            await asyncio.sleep(0.05)
    with suppress(NotFound):  # the test has started no worker with a version
        await set_current_version(temporal, NAME, None)
    async with asyncio.timeout(40):
        while await version_with_tasks(temporal):
            await asyncio.sleep(0.05)


@pytest.fixture
async def deploys(
    dev_server: DevServer,
    temporal: Client,
    store: AccountStore,
    mail_server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Deploys:
    monkeypatch.setenv("TEMPORAL_ADDRESS", dev_server.address)
    settings = Settings(
        _env_file=None,
        public_url="https://accounts.example",
        secret_keys=KEY,
        smtp_hostname="127.0.0.1",
        smtp_port=mail_server.port,
        smtp_tls="none",
        mail_from="no-reply@accounts.example",
    )
    return Deploys(temporal, settings, store, monkeypatch)


async def test_requests_stay_open_through_deploys_and_a_rollback(
    deploys: Deploys, example: dict[str, Any], query_store: Query
) -> None:
    opened = []
    async with deploys.worker(), AsyncExitStack() as first:
        opened.append(await deploys.open_request(example, "unversioned"))
        await first.enter_async_context(deploys.worker(V1))
        await deploys.deploy(V1)
        opened.append(await deploys.open_request(example, "v1"))
        async with deploys.worker(V2):
            await deploys.deploy(V2)
            await first.aclose()
            opened.append(await deploys.open_request(example, "v2"))
            await deploys.deploy(V2)  # a repeat
            async with deploys.worker(V1):
                await deploys.deploy(V1)
                opened.append(await deploys.open_request(example, "back"))
                await deploys.deploy(V2)
            opened.append(await deploys.open_request(example, "again"))
            for started in opened:
                assert (await deploys.requests.status(started.workflow_id)).status == "pending"
                await deploys.requests.accept(started.workflow_id)
            for started in opened:
                assert (await deploys.result(started))["status"] == "active"
                assert await deploys.failed_tasks(started) == []
    stored = await query_store("SELECT status, count(*) AS number FROM requests GROUP BY status")
    assert stored == [{"status": Status.ACTIVE, "number": len(opened)}]


async def test_without_open_requests_the_check_changes_nothing(
    deploys: Deploys, query_store: Query, mail_server: MailServer
) -> None:
    started_at = datetime.now(UTC)
    async with deploys.worker(V1):
        await deploys.deploy(V1)
        ended = deploys.temporal.get_workflow_handle("ended", run_id=str(uuid4()))
        await deploy.check_that_workers_respond(deploys.temporal, V1, ended)
    expected = [WorkflowExecutionStatus.COMPLETED] * 2
    found: list[WorkflowExecutionStatus | None] = []
    async with asyncio.timeout(40):
        while found != expected:  # the list is a little behind
            workflows = [each async for each in deploys.temporal.list_workflows()]
            checks = [each for each in workflows if CHECK in each.id]
            found = [each.status for each in checks if each.start_time > started_at]
            await asyncio.sleep(0.05)
    assert await query_store("SELECT * FROM requests") == []
    assert await query_store("SELECT * FROM emails") == []
    assert mail_server.emails == []


async def test_replay_finds_a_line_that_is_not_behind_a_patch(
    deploys: Deploys, example: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async with deploys.worker():
        started = await deploys.open_request(example, "gate")
    await deploys.requests.accept(started.workflow_id)
    new = {"account_domain": "new.example", "customer_email": "ada@new.example"}
    await deploys.requests.start(SmartAccountRequest.model_validate(example | new))
    await until_listed(deploys.temporal, 2)
    deploys.release(Patched)
    await deploys.deploy(V2, dry_run=True)
    assert "Replayed 2 open executions with this code." in capsys.readouterr().out
    deploys.release(Unpatched)
    with pytest.raises(Rejected, match=r"^1 of 2 open executions cannot .* Nothing was changed\.$"):
        await deploys.deploy(V2)
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{started.workflow_id}: [TMPRL1100]")
    assert printed.out.count("\n") == 1
    assert printed.err == ""
    assert await current_version(deploys.temporal, NAME) is None


async def test_rollback_of_a_patch_after_one_release_stops_requests(
    deploys: Deploys, example: dict[str, Any]
) -> None:
    deploys.release(Patched)
    async with deploys.worker():
        started = await deploys.open_request(example, "one-step")
    await until_listed(deploys.temporal, 1)
    deploys.release(SmartAccountRequestWorkflow)
    with pytest.raises(Rejected, match="1 of 1 open execution cannot continue"):
        await deploys.deploy(V1, dry_run=True)
    await deploys.requests.accept(started.workflow_id)
    async with deploys.worker(), asyncio.timeout(40):
        while not (failed := await deploys.failed_tasks(started)):
            await asyncio.sleep(0.05)
    assert "Non-deprecated patch marker encountered" in failed[0]
    deploys.release(Patched)
    assert await replay_open_executions(deploys.temporal) is None, "a query would have to wait"
    async with deploys.worker():
        assert (await deploys.result(started))["status"] == "active"


async def test_rollback_of_a_patch_after_two_releases_is_clean(
    deploys: Deploys, example: dict[str, Any]
) -> None:
    activations = [False, True, False, True]
    opened: list[Started] = []
    for number, is_activated in enumerate(activations):
        deploys.release(Patched, not_active_yet="" if is_activated else PATCH)
        await deploys.deploy(V1, dry_run=True)
        async with deploys.worker():
            for started in opened:  # an event that changes nothing
                await deploys.requests.accept(started.workflow_id, link=99)
                await deploys.requests.status(started.workflow_id)
            opened.append(await deploys.open_request(example, f"two-steps-{number}"))
            if number == len(activations) - 1:
                for started in opened:
                    await deploys.requests.accept(started.workflow_id)
                    assert (await deploys.result(started))["status"] == "active"
    for started, is_activated in zip(opened, activations, strict=True):
        assert await deploys.failed_tasks(started) == []
        assert await deploys.has_patch(started) == is_activated


async def test_version_without_workers_does_not_become_current(
    deploys: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deploys.worker(V1):
        await deploys.deploy(V1)
    monkeypatch.setattr(deploy, "WORKERS_START_WITHIN", timedelta(seconds=0.5))
    with pytest.raises(Rejected, match=r"^No worker of version smart-accounts\.none runs\."):
        await deploys.deploy(WorkerDeploymentVersion(NAME, "none"))
    with pytest.raises(Rejected, match=r"smart-accounts\.v1 is of another deployment\."):
        await deploys.deploy(WorkerDeploymentVersion("smart-acounts", "v1"))
    assert await current_version(deploys.temporal, NAME) == V1


@pytest.mark.parametrize(("previous", "is_open"), [(None, True), (V1, False)])
async def test_goes_back_if_the_workers_stopped_a_moment_ago(
    deploys: Deploys,
    example: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    previous: WorkerDeploymentVersion | None,
    is_open: bool,
) -> None:
    async with deploys.worker(previous):
        if previous:
            await deploys.deploy(previous)
        domain = f"stopped-{previous is None}"
        started = await deploys.open_request(example, domain) if is_open else None
        async with deploys.worker(V2), asyncio.timeout(40):
            while not await has_workers(deploys.temporal, V2):
                await asyncio.sleep(0.05)
        monkeypatch.setattr(deploy, "WORKERS_RESPOND_WITHIN", timedelta(seconds=2))
        with pytest.raises(Rejected) as refusal:
            await deploys.deploy(V2)
        assert str(refusal.value) == (
            "No worker of version smart-accounts.v2 responded in 2 s."
            f" The current version is {deployment.shown(previous)}."
        )
        assert await current_version(deploys.temporal, NAME) == previous
        behind = await deployment._describe_task_queue(deploys.temporal)

        async def describe_behind(_client: Client) -> DescribeTaskQueueResponse:
            return behind  # the task queue has not learned of the change yet

        monkeypatch.setattr(deployment, "_describe_task_queue", describe_behind)
        interrupted = asyncio.create_task(deploys.deploy(V2))
        async with asyncio.timeout(40):
            while await current_version(deploys.temporal, NAME) != V2:
                await asyncio.sleep(0.05)
        interrupted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await interrupted
        assert await current_version(deploys.temporal, NAME) == previous
        if started:
            await deploys.requests.accept(started.workflow_id)
            assert (await deploys.result(started))["status"] == "active"
            assert await deploys.failed_tasks(started) == []


async def test_goes_back_if_the_workers_run_other_code(
    deploys: Deploys, example: dict[str, Any]
) -> None:
    async with deploys.worker(V1):
        await deploys.deploy(V1)
        started = await deploys.open_request(example, "other-code")
        deploys.release(Unpatched)
        async with deploys.worker(V2):
            deploys.release(SmartAccountRequestWorkflow)
            with pytest.raises(Rejected, match="responded with an error"):
                await deploys.deploy(V2)
            assert await current_version(deploys.temporal, NAME) == V1
        await deploys.requests.accept(started.workflow_id)
        assert (await deploys.result(started))["status"] == "active"
        assert await deploys.failed_tasks(started) == []


async def test_waits_until_temporal_knows_the_workers_for_all_tasks(
    deploys: Deploys, example: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    version = WorkerDeploymentVersion(NAME, "begins-with-workflows")
    async with deploys.worker(V1):
        await deploys.deploy(V1)
        started = await deploys.open_request(example, "all-tasks")  # so the task queues are in use
        async with deploys.worker_without_activities(version):
            deploying = asyncio.create_task(deploys.deploy(version))
            async with asyncio.timeout(40):
                while "Waiting for workers" not in capsys.readouterr().out:
                    await asyncio.sleep(0.05)
            assert not await has_workers(deploys.temporal, version)
            assert not deploying.done()
        async with deploys.worker(version):
            await deploying
            await deploys.requests.accept(started.workflow_id)
            assert (await deploys.result(started))["status"] == "active"


async def test_change_by_somebody_else_stays(
    deploys: Deploys, example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def set_another_version(
        client: Client, name: str, version: WorkerDeploymentVersion | None
    ) -> None:
        await set_current_version(client, name, V1 if version == V2 else version)

    async with deploys.worker(), deploys.worker(V1), deploys.worker(V2):
        await deploys.open_request(example, "somebody-else")
        monkeypatch.setattr(deploy, "WORKERS_RESPOND_WITHIN", timedelta(seconds=1))
        monkeypatch.setattr(deploy, "set_current_version", set_another_version)
        with pytest.raises(Rejected, match=r"responded in 1 s\. The current version is .*\.v1\.$"):
            await deploys.deploy(V2)


async def test_execution_that_is_deleted_meanwhile_stops_no_replay(
    deploys: Deploys,
    example: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number in range(2):
        request = example | {"account_domain": f"meanwhile-{number}.example"}
        await deploys.requests.start(SmartAccountRequest.model_validate(request))
    await until_listed(deploys.temporal, 2)
    fetch_history = WorkflowHandle.fetch_history

    async def fetch(handle: WorkflowHandle[Any, Any], **options: Any) -> WorkflowHistory:
        if handle.id == "smart-account-meanwhile-0.example":
            raise RPCError("deleted", RPCStatusCode.NOT_FOUND, b"")
        return await fetch_history(handle, **options)

    monkeypatch.setattr(WorkflowHandle, "fetch_history", fetch)
    await deploys.deploy(V1, dry_run=True)
    assert capsys.readouterr().out == "Replayed 1 open execution with this code.\n"


async def test_worker_logs_that_it_gets_no_tasks(
    deploys: Deploys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deployment, "LOOK_EVERY", timedelta(seconds=0.05))
    caplog.set_level(logging.INFO, deployment.__name__)

    async def wait_for(*messages: str) -> None:
        async with asyncio.timeout(40):
            while len(caplog.messages) < len(messages):
                await asyncio.sleep(0.02)
        assert sorted(message.partition(". ")[0] for message in caplog.messages) == sorted(messages)
        caplog.clear()

    watching = [
        asyncio.create_task(log_missing_tasks(deploys.temporal, version)) for version in (None, V1)
    ]
    await wait_for(GETS_NO_TASKS.format("smart-accounts.v1", "unversioned"))
    async with deploys.worker(V1):
        await deploys.deploy(V1)
    await wait_for(
        "this worker gets tasks again", GETS_NO_TASKS.format("unversioned", "smart-accounts.v1")
    )
    for each in watching:
        each.cancel()


async def test_programs_of_one_version(
    service: Service, new_request: dict[str, Any], temporal: Client
) -> None:
    version = {"TEMPORAL_DEPLOYMENT_NAME": NAME, "TEMPORAL_WORKER_BUILD_ID": "v1"}

    async def run(*arguments: str, **changes: str) -> int:
        command = service.launch("-m", "smart_accounts.admin", "deploy", *arguments, **changes)
        return await asyncio.to_thread(command.wait, 60)

    assert await run() == 2
    refusal = f"bad settings: {', '.join(version)}: are required for a deploy\n"
    assert service.log == refusal
    unknown = await temporal.start_workflow("Unknown", id="unknown", task_queue=TASK_QUEUE)
    await until_listed(temporal, 1)
    assert await run("--dry-run") == 0
    assert service.log == f"{refusal}Replayed 1 open execution with this code.\n"
    await unknown.terminate()
    await service.start_worker(**version)
    async with asyncio.timeout(40):
        while GETS_NO_TASKS.format("smart-accounts.v1", "unversioned") not in service.log:
            await asyncio.sleep(0.05)
    assert await run(**version) == 0
    assert "Version smart-accounts.v1 is current, and its workers respond." in service.log
    await service.wait_for(await service.start(new_request), Status.PENDING)
    assert await run(**version | {"TEMPORAL_DEPLOYMENT_NAME": "other"}) == 1
    back = f"worker deployment set-current-version --deployment-name {NAME} --unversioned --yes"
    assert (await service.server.cli(*back.split())).returncode == 0
    assert await current_version(temporal, NAME) is None
