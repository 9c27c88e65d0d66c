"""Deleting the executions of a request, with a fake Temporal."""

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.store.records import StoredRequest
from smart_accounts.temporal import histories
from smart_accounts.temporal.histories import Histories
from tests.support.stored_requests import NOW

WORKFLOW_ID = "smart-account-acme.example"
REQUEST = "first-run"


class Temporal:
    """Three runs of one request, which are gone some time after their deletion."""

    namespace = "default"

    def __init__(self) -> None:
        self.looks = {REQUEST: -1, "second-run": -1, "third-run": -1}
        """How often a deleted run is still found. It is -1 before the deletion."""
        self.workflow_service = self
        self.first_run = dict.fromkeys(self.looks, REQUEST)

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
                raw_info=SimpleNamespace(first_run_id=self.first_run[run]),
                status=WorkflowExecutionStatus.COMPLETED,
                memo_value=no_memo,
            )

        async def no_memo(name: str, default: Any) -> Any:
            return default

        return SimpleNamespace(describe=describe)


@pytest.fixture
def temporal(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(histories, "GONE_EVERY", 0)
    return Temporal()


@pytest.fixture
def request_(example: dict[str, Any]) -> StoredRequest:
    given = SmartAccountRequest.model_validate(example)
    return StoredRequest.new(REQUEST, given, NOW, status=Status.PENDING)


async def test_runs_are_deleted_one_after_another(temporal: Any, request_: StoredRequest) -> None:
    """Otherwise Temporal keeps the events that a run shares with the run that replaced it."""
    assert await Histories(temporal).delete(request_) == 3
    assert set(temporal.looks.values()) == {0}


async def test_restarted_run_is_found_without_its_memo(
    temporal: Any, request_: StoredRequest
) -> None:
    """The memo may be in clear, which strict encryption does not read, or under another key.

    The run was reset, and the store knows the first run of the restart.
    """
    temporal.first_run |= {"second-run": "second-run", "third-run": "second-run"}
    assert await Histories(temporal).delete(replace(request_, run_id="second-run")) == 3
    assert set(temporal.looks.values()) == {0}


async def test_reset_run_is_found_after_the_first_run_of_its_restart_is_gone(
    temporal: Any, request_: StoredRequest
) -> None:
    temporal.first_run |= {"second-run": "second-run", "third-run": "second-run"}
    temporal.looks["second-run"] = 0
    assert await Histories(temporal).delete(replace(request_, run_id="second-run")) == 2
    assert set(temporal.looks.values()) == {0}


async def test_run_of_another_request_for_the_domain_is_left(
    temporal: Any, request_: StoredRequest
) -> None:
    temporal.first_run["third-run"] = "third-run"
    assert await Histories(temporal).delete(request_) == 2
    assert temporal.looks["third-run"] == -1
