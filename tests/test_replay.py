"""Histories of every release replay: open requests outlive deploys."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

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
    )
    await replayer.replay_workflow(WorkflowHistory.from_json(path.stem, path.read_text()))
