"""What a sweep does where Temporal, a key or an operator stands in its way."""

from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import ScheduleAlreadyRunningError, WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.names import LINK
from smart_accounts.contract.steps import Sweep, Swept
from smart_accounts.errors import Unavailable
from smart_accounts.sweep.executions import may_have_newer_link
from smart_accounts.sweep.schedule import schedule_sweep
from smart_accounts.temporal.codec import PayloadCipher, client_data_converter
from tests.support.keys import NEW_KEY, OLD_KEY
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
