"""Deleting the executions of a request, with a fake Temporal."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.temporal import histories
from smart_accounts.temporal.histories import Histories

WORKFLOW_ID = "smart-account-acme.example"
REQUEST = "first-run"


class Temporal:
    """Three runs of one request, which are gone some time after their deletion."""

    namespace = "default"

    def __init__(self) -> None:
        self.looks = {REQUEST: -1, "second-run": -1, "third-run": -1}
        """How often a deleted run is still found. It is -1 before the deletion."""
        self.workflow_service = self

    async def delete_workflow_execution(self, request: Any, **_: Any) -> None:
        assert not any(left > 0 for left in self.looks.values()), "another run is being deleted"
        self.looks[request.workflow_execution.run_id] = 3

    async def list_workflows(self, query: str, **_: Any) -> AsyncIterator[Any]:
        for run_id in list(self.looks):
            yield SimpleNamespace(id=WORKFLOW_ID, run_id=run_id)

    def get_workflow_handle(self, workflow_id: str, *, run_id: str | None = None) -> Any:
        async def describe(**_: Any) -> Any:
            run = run_id or "third-run"
            if workflow_id != WORKFLOW_ID or self.looks.get(run, 0) == 0:
                raise RPCError("not found", RPCStatusCode.NOT_FOUND, b"")
            self.looks[run] -= self.looks[run] > 0
            return SimpleNamespace(
                id=workflow_id,
                run_id=run,
                raw_info=SimpleNamespace(first_run_id=REQUEST),
                status=WorkflowExecutionStatus.COMPLETED,
                memo_value=no_memo,
            )

        async def no_memo(name: str, default: Any) -> Any:
            return default

        return SimpleNamespace(describe=describe)


async def test_runs_are_deleted_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Temporal keeps the events that a run shares with the run that replaced it."""
    monkeypatch.setattr(histories, "GONE_EVERY", 0)
    temporal: Any = Temporal()
    assert await Histories(temporal).delete(WORKFLOW_ID, REQUEST) == 3
    assert set(temporal.looks.values()) == {0}
