"""What a sweep does where Temporal, a key or an operator stands in its way."""

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import (
    ScheduleAlreadyRunningError,
    WorkflowExecution,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import HOW_IT_ENDED, LINK, erased_id
from smart_accounts.contract.steps import Decision, ErasedRequest, Sweep, Swept
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.sweep import executions
from smart_accounts.sweep.differences import Difference, Kind, Repair
from smart_accounts.sweep.executions import Executions, may_have_newer_link
from smart_accounts.sweep.schedule import schedule_sweep
from smart_accounts.sweep.sweep import Sweeper
from smart_accounts.temporal.codec import PayloadCipher, client_data_converter
from smart_accounts.temporal.erasures import Erasures
from tests.support.keys import NEW_KEY, OLD_KEY
from tests.support.stored_requests import NOW
from tests.support.web_settings import client_settings
from workflows.sweep import SweepWorkflow


@pytest.mark.parametrize(
    ("is_held", "steps"), [(False, ["sweep", "purge_ended_requests"]), (True, ["sweep"])]
)
async def test_nothing_is_purged_while_the_sweep_is_held(
    monkeypatch: pytest.MonkeyPatch, is_held: bool, steps: list[str]
) -> None:
    """In a wrong namespace, the histories of a purged request would be missed."""
    done = []

    async def execute(method: Any, *_given: object, **_options: object) -> Swept:
        done.append(method.__name__)
        return Swept(is_held=is_held)

    monkeypatch.setattr(workflow, "execute_activity_method", execute)
    assert (await SweepWorkflow().run(Sweep())).is_held is is_held
    assert done == steps


@pytest.mark.parametrize(
    ("key", "link", "is_newer"),
    [(NEW_KEY, 2, False), (NEW_KEY, 3, True), (NEW_KEY, '"3"', False), (OLD_KEY, 2, True)],
)
async def test_link_under_an_unknown_key_ends_no_sweep(
    key: str, link: object, is_newer: bool
) -> None:
    """A worker is asked instead. If it cannot tell either, the request is unreadable."""
    plain = Payload(metadata={"encoding": b"json/plain"}, data=str(link).encode())
    info = WorkflowExecutionInfo()
    info.memo.fields[LINK].CopyFrom(PayloadCipher([key]).encrypt(plain))
    converter = client_data_converter(client_settings(payload_keys=NEW_KEY))
    run = WorkflowExecution._from_raw_info(info, "default", converter)
    assert await may_have_newer_link(run, 2) is is_newer


@pytest.mark.parametrize("error", [WorkflowQueryFailedError("unreadable"), NotFound("gone")])
async def test_unreadable_closing_ends_no_sweep(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Workers cannot continue it, or Temporal's retention has just passed."""
    monkeypatch.setattr(executions, "closed_account", AsyncMock(side_effect=error))
    assert await Executions(Mock()).closing("one") is None


async def test_unreadable_run_after_a_restart_and_a_reset_belongs_to_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the customer could be told of a withdrawal that may be wrong."""
    monkeypatch.setattr(Executions, "record", AsyncMock(return_value=None))
    store, found = Mock(), list[Difference]()
    store.comparison.find = AsyncMock(side_effect={"restart": Mock(id="request")}.get)
    sweeper = Sweeper(Mock(), store, Mock(), on_difference=found.append)
    await sweeper._rebuild(Mock(run_id="reset", raw_info=Mock(first_run_id="restart")))
    assert found == [Difference(Kind.UNREADABLE, "request", Repair.TRIED_AGAIN)]


async def test_erasures_are_read_without_their_key() -> None:
    """An end that cannot be read is not taken for none: the sweep then does nothing."""
    erased = ErasedRequest(
        request_id="one",
        account_domain="acme.example",
        decision=Decision(status=Status.ACTIVE, at=NOW),
        link_ordinal=1,
        at=NOW,
    )
    converter = client_data_converter(client_settings(payload_keys=NEW_KEY))
    runs = []
    for its_id, key, memo in (
        ("one", NEW_KEY, erased.model_dump_json()),
        ("one", OLD_KEY, erased.model_dump_json()),
        ("two", NEW_KEY, erased.model_dump_json()),
        ("one", NEW_KEY, '"nonsense"'),
    ):
        plain = Payload(metadata={"encoding": b"json/plain"}, data=memo.encode())
        info = WorkflowExecutionInfo()
        info.execution.workflow_id = erased_id(its_id)
        info.memo.fields[HOW_IT_ENDED].CopyFrom(PayloadCipher([key]).encrypt(plain))
        runs.append(WorkflowExecution._from_raw_info(info, "default", converter))

    async def list_workflows(*_given: object, **_options: object) -> AsyncIterator[Any]:
        for run in runs:
            yield run

    client = Mock()
    client.list_workflows = list_workflows
    found = [each async for each in Erasures(client).all()]
    assert found == [("one", erased), ("one", None), ("two", None), ("one", None)]


@pytest.mark.parametrize("is_created", [False, True])
async def test_worker_starts_where_schedules_are_forbidden(
    is_created: bool, caplog: pytest.LogCaptureFixture
) -> None:
    forbidden = RPCError("No.", RPCStatusCode.PERMISSION_DENIED, b"")
    down = RPCError("Down.", RPCStatusCode.UNAVAILABLE, b"")
    client = Mock()
    client.create_schedule = create = AsyncMock(side_effect=forbidden)
    client.get_schedule_handle.return_value.update = update = AsyncMock(side_effect=forbidden)
    if is_created:
        create.side_effect = ScheduleAlreadyRunningError
    await schedule_sweep(client)
    assert "does not let us schedule the sweep: PERMISSION_DENIED" in caplog.text
    create.side_effect = update.side_effect = down
    with pytest.raises(Unavailable):
        await schedule_sweep(client)
