"""Give all requests to the workers of a new version, after a replay of those that are open."""

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Annotated, Any
from uuid import uuid4

import typer
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
)
from temporalio.common import WorkerDeploymentVersion

from smart_accounts.admin.replay import replay_open_executions
from smart_accounts.cli import output
from smart_accounts.cli.asynchronous import asynchronous
from smart_accounts.contract.actions import Actor, Closing, Role
from smart_accounts.contract.names import REMAINING_EMAILS_TYPE, TASK_QUEUE, closing_id
from smart_accounts.contract.steps import SendEmails
from smart_accounts.errors import BadSetting, NoResponse, NotFound, Rejected
from smart_accounts.settings import load_client_settings
from smart_accounts.temporal.connection import connect
from smart_accounts.temporal.deployment import (
    BUILD_ID,
    DEPLOYMENT_NAME,
    current_version,
    deployment_version,
    has_workers,
    set_current_version,
    shown,
    version_of_first_task,
    version_with_tasks,
)
from smart_accounts.temporal.errors import time_limit, translate_errors
from smart_accounts.temporal.guard import worker_data_converter

WORKERS_START_WITHIN = timedelta(minutes=2)
WORKERS_RESPOND_WITHIN = timedelta(seconds=30)
# Every workflow responds to this query of the SDK.
ANY_QUERY = "__temporal_workflow_metadata"


@asynchronous
async def deploy(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only replay, and change nothing.")
    ] = False,
) -> None:
    """Give all requests to the workers of this version, after a replay of those that are open.

    TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID name the version. Start its workers first,
    and stop the previous ones last. If the new workers do not respond, the previous version becomes
    current again. It is safe to repeat the command.
    """
    version = deployment_version()
    if version is None and not dry_run:
        raise BadSetting(f"bad settings: {DEPLOYMENT_NAME}, {BUILD_ID}: are required for a deploy")
    client = await connect(data_converter=worker_data_converter(load_client_settings()))
    waiting = await replay_open_executions(client)
    if version is None or dry_run:
        return
    with_tasks = await version_with_tasks(client)
    if with_tasks and with_tasks.deployment_name != version.deployment_name:
        raise Rejected(
            f"The current version {shown(with_tasks)} is of another deployment. Correct"
            f" {DEPLOYMENT_NAME}, here and for the workers. Nothing was changed."
        )
    previous = await current_version(client, version.deployment_name)
    await _wait_for_workers(client, version)
    await _make_current(client, version, previous, waiting)
    output.show(f"Version {shown(version)} is current, and its workers respond.")
    if previous != version:
        output.show(f"Stop the previous workers now ({shown(previous)}).")


async def _wait_for_workers(client: Client, version: WorkerDeploymentVersion) -> None:
    output.show(f"Waiting for workers of version {shown(version)}.")
    try:
        async with asyncio.timeout(WORKERS_START_WITHIN.total_seconds()):
            while not await has_workers(client, version):  # noqa: ASYNC110 - Temporal sets no event
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise Rejected(
            f"No worker of version {shown(version)} runs. Start its workers, and repeat the"
            " command. Nothing was changed."
        ) from None


async def _make_current(
    client: Client,
    version: WorkerDeploymentVersion,
    previous: WorkerDeploymentVersion | None,
    waiting: WorkflowHandle[Any, Any] | None,
) -> None:
    """Make the version current, or go back to the previous one if its workers do not respond."""
    try:
        await _unless_stopped(_switch(client, version, waiting))
    except BaseException as error:  # also Ctrl-C
        now = await current_version(client, version.deployment_name)
        if now == version != previous:  # otherwise somebody else has changed it meanwhile
            await set_current_version(client, version.deployment_name, previous)
            now = previous
        if isinstance(error, Rejected):
            raise Rejected(f"{error} The current version is {shown(now)}.") from None
        raise


async def _switch(
    client: Client, version: WorkerDeploymentVersion, waiting: WorkflowHandle[Any, Any] | None
) -> None:
    await set_current_version(client, version.deployment_name, version)
    await check_that_workers_respond(client, version, waiting)


async def _unless_stopped(switch: Coroutine[Any, Any, None]) -> None:
    """Run the switch until its end, or until SIGTERM or SIGHUP.

    CI sends SIGTERM when it cancels a job. A lost ssh connection sends SIGHUP.

    Raises:
        Rejected: A signal stopped the switch. Later SIGTERM and SIGHUP do nothing.
    """
    command = asyncio.current_task()
    running = asyncio.create_task(switch)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # started by nohup
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        if command and command.cancelling():  # Ctrl-C
            raise
        raise Rejected("The deploy was stopped.") from None


async def check_that_workers_respond(
    client: Client, version: WorkerDeploymentVersion, waiting: WorkflowHandle[Any, Any] | None
) -> None:
    """Let workers of the version run a workflow, and query an open execution if there is one.

    This is the only proof, because Temporal lists workers for minutes after they have stopped.

    Raises:
        Rejected: The workers do not respond, or they respond with an error.
    """
    limit = WORKERS_RESPOND_WITHIN
    try:
        async with time_limit(limit):
            # The switch may reach the task queue a moment later. Until then, other workers respond.
            while await _version_that_runs_a_workflow(client) != version:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.5)
            if waiting:
                with suppress(NotFound), translate_errors():  # it has ended meanwhile
                    await waiting.query(ANY_QUERY)
    except NoResponse:
        seconds = int(limit.total_seconds())
        raise Rejected(f"No worker of version {shown(version)} responded in {seconds} s.") from None
    except (WorkflowQueryFailedError, WorkflowFailureError):
        raise Rejected(
            f"A worker of version {shown(version)} responded with an error. Its log says which."
        ) from None


async def _version_that_runs_a_workflow(client: Client) -> WorkerDeploymentVersion | None:
    """Run the closing of an account that does not exist. It changes nothing and sends no email."""
    request_id = f"deploy-{uuid4()}"
    by = Actor(role=Role.OPERATOR, subject="deploy")
    closing = Closing(account_domain="deploy.invalid", reason="A deploy checks workers.", by=by)
    handle: WorkflowHandle[Any, Any] = await client.start_workflow(
        REMAINING_EMAILS_TYPE,
        SendEmails(request_id=request_id, emails=(), closing=closing),
        id=closing_id(request_id),
        task_queue=TASK_QUEUE,
        execution_timeout=WORKERS_RESPOND_WITHIN,
        static_summary="A deploy checks that the workers respond",
    )
    await handle.result()
    return await version_of_first_task(handle)
