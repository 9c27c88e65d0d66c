"""The replay of open executions before a deploy."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from smart_accounts.admin import replay
from smart_accounts.temporal.guard import worker_data_converter
from tests.support.web_settings import client_settings

ACME = "smart-account-acme-1.example"
FILE = Path(__file__).parents[1] / "histories" / "accepted.json"


class FakeClient:
    """Temporal with these open executions."""

    data_converter = worker_data_converter(client_settings())

    def __init__(self, *histories: WorkflowHistory) -> None:
        self._histories = {str(number): history for number, history in enumerate(histories)}

    async def count_workflows(self, *_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(count=len(self._histories))

    async def list_workflows(self, *_: Any, **__: Any) -> AsyncIterator[SimpleNamespace]:
        for run_id in self._histories:
            yield SimpleNamespace(id=ACME, run_id=run_id)

    def get_workflow_handle(self, _: str, *, run_id: str) -> SimpleNamespace:
        async def fetch_history(**__: Any) -> WorkflowHistory:
            return self._histories[run_id]

        return SimpleNamespace(fetch_history=fetch_history)


class CheckedReplayer(Replayer):
    """Fails where the SDK's replayer would never return."""

    def workflow_replay_iterator(self, histories: AsyncIterator[WorkflowHistory]) -> Any:
        async def checked() -> AsyncIterator[WorkflowHistory]:
            async for history in histories:
                assert len(history.events) > 1
                yield history

        return super().workflow_replay_iterator(checked())


async def test_start_that_is_delayed_has_nothing_to_replay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replay, "Replayer", CheckedReplayer)
    begun = WorkflowHistory.from_json(ACME, FILE.read_text())
    delayed = WorkflowHistory(ACME, begun.events[:1])
    client = cast(Client, FakeClient(delayed, begun, delayed))
    await replay.replay_open_executions(client)
    assert capsys.readouterr().out == "Replayed 3 open executions with this code.\n"
    assert await replay.replay_open_executions(cast(Client, FakeClient(delayed))) is None
