"""Histories of every release replay: open requests outlive deploys."""

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from smart_accounts.temporal import GuardInterceptor, worker_data_converter
from workflows.smart_account_request import SmartAccountRequestWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))


def test_there_are_histories() -> None:
    assert {path.stem for path in HISTORIES} >= {"accepted", "declined", "lapsed"}


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_history_replays(path: Path) -> None:
    replayer = Replayer(
        workflows=[SmartAccountRequestWorkflow],
        interceptors=[GuardInterceptor()],
        data_converter=worker_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),  # as in production
    )
    history = json.loads(path.read_text())
    started = history["events"][0]["workflowExecutionStartedEventAttributes"]
    await replayer.replay_workflow(WorkflowHistory.from_json(started["workflowId"], history))
