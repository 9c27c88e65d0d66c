"""The version of a worker, and the version that gets the tasks (Temporal's Worker Deployments)."""

import asyncio
import logging
import os
import re
from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio.api.deployment.v1 import WorkerDeploymentVersion as VersionMessage
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError

from smart_accounts.contract.names import TASK_QUEUE
from smart_accounts.errors import BadSetting, NotFound
from smart_accounts.temporal.errors import QUERY_TIMEOUT, translate_errors

DEPLOYMENT_NAME = "TEMPORAL_DEPLOYMENT_NAME"
BUILD_ID = "TEMPORAL_WORKER_BUILD_ID"
LOOK_EVERY = timedelta(seconds=30)
SET_TIMEOUT = timedelta(seconds=30)  # usually a second
TASK_TYPES = {TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY}

_log = logging.getLogger(__name__)


def deployment_version() -> WorkerDeploymentVersion | None:
    """Return the version that the environment names, or None for a worker without a version.

    Raises:
        BadSetting: Only one of the two variables is set, or Temporal does not accept a value.
    """
    name, build_id = os.environ.get(DEPLOYMENT_NAME), os.environ.get(BUILD_ID)
    if not name and not build_id:
        return None
    if not name or not build_id:
        missing, given = (BUILD_ID, DEPLOYMENT_NAME) if name else (DEPLOYMENT_NAME, BUILD_ID)
        raise BadSetting(f"bad settings: {missing}: is required, because {given} is set")
    rule = "must have at most 63 visible ASCII characters, and not begin with __"
    if not re.fullmatch(r"(?!__)[!-~]{1,63}", build_id):
        raise BadSetting(f"bad settings: {BUILD_ID}: {rule}")
    if not re.fullmatch(r"(?!__)[!-~]{1,63}", name) or set(name) & set(".:"):
        raise BadSetting(f"bad settings: {DEPLOYMENT_NAME}: {rule}, and have no . and no :")
    return WorkerDeploymentVersion(name, build_id)


async def current_version(client: Client, deployment_name: str) -> WorkerDeploymentVersion | None:
    """Return which version of a deployment gets the tasks, or None if none of them does."""
    request = DescribeWorkerDeploymentRequest(
        namespace=client.namespace, deployment_name=deployment_name
    )
    try:
        with translate_errors():
            described = await client.workflow_service.describe_worker_deployment(
                request, retry=True, timeout=QUERY_TIMEOUT
            )
    except NotFound:  # it has had no workers yet
        return None
    return _version(described.worker_deployment_info.routing_config.current_deployment_version)


async def version_with_tasks(client: Client) -> WorkerDeploymentVersion | None:
    """Return the version that gets the tasks, or None if workers without a version get them.

    The task queue learns of a change a moment after its deployment.
    """
    with translate_errors():
        described = await _describe_task_queue(client)
    return _version(described.versioning_info.current_deployment_version)


async def has_workers(client: Client, version: WorkerDeploymentVersion) -> bool:
    """Return True if workers of a version ask for tasks, or did so within the last minutes.

    Temporal must also know them for workflows and for activities, which it learns from the first
    poll for each. Until then it refuses to make the version current.
    """
    message = VersionMessage(deployment_name=version.deployment_name, build_id=version.build_id)
    request = DescribeWorkerDeploymentVersionRequest(
        namespace=client.namespace, deployment_version=message
    )
    with translate_errors():
        polled = await _describe_task_queue(client)
    options = [poller.deployment_options for poller in polled.pollers]
    if version not in [WorkerDeploymentVersion(o.deployment_name, o.build_id) for o in options]:
        return False
    try:
        with translate_errors():
            known = await client.workflow_service.describe_worker_deployment_version(
                request, retry=True, timeout=QUERY_TIMEOUT
            )
    except NotFound:
        return False
    types = {queue.type for queue in known.version_task_queues if queue.name == TASK_QUEUE}
    return types >= TASK_TYPES


async def set_current_version(
    client: Client, deployment_name: str, version: WorkerDeploymentVersion | None
) -> None:
    """Let a version of a deployment get the tasks, or workers without a version."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=deployment_name,
        build_id=version.build_id if version else "",
        identity=client.identity,
    )
    with translate_errors():  # Temporal limits the rate of such calls
        await client.workflow_service.set_worker_deployment_current_version(
            request, retry=True, timeout=SET_TIMEOUT
        )


async def version_of_first_task(handle: WorkflowHandle[Any, Any]) -> WorkerDeploymentVersion | None:
    """Return the version of the worker that ran the first task of a workflow."""
    async for event in handle.fetch_history_events():
        if event.HasField("workflow_task_completed_event_attributes"):
            return _version(event.workflow_task_completed_event_attributes.deployment_version)
    return None


async def log_missing_tasks(client: Client, version: WorkerDeploymentVersion | None) -> None:
    """Log when this worker begins to get no tasks, and when it gets tasks again.

    Neither Temporal nor the SDK says so.
    """
    got_tasks = True
    while True:
        with suppress(RPCError):  # an outage
            info = (await _describe_task_queue(client)).versioning_info
            current = _version(info.current_deployment_version)
            gets_tasks = version == current or (
                info.ramping_version_percentage > 0
                and version == _version(info.ramping_deployment_version)
            )
            if gets_tasks and not got_tasks:
                _log.info("this worker gets tasks again")
            elif got_tasks and not gets_tasks:
                _log.warning(
                    "this worker gets no tasks: it is %s, and the current version is %s."
                    " To make a version current: python -m smart_accounts.admin deploy",
                    shown(version),
                    shown(current),
                )
            got_tasks = gets_tasks
        await asyncio.sleep(LOOK_EVERY.total_seconds())


def shown(version: WorkerDeploymentVersion | None) -> str:
    """Return a version as Temporal's CLI and Web UI show it."""
    return version.to_canonical_string() if version else "unversioned"


async def _describe_task_queue(client: Client) -> DescribeTaskQueueResponse:
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=TASK_QUEUE),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    return await client.workflow_service.describe_task_queue(
        request, retry=True, timeout=QUERY_TIMEOUT
    )


def _version(message: VersionMessage) -> WorkerDeploymentVersion | None:
    if not message.build_id:
        return None
    return WorkerDeploymentVersion(message.deployment_name, message.build_id)
