"""What a sweep does where Temporal, a key or an operator stands in its way."""

from typing import Any

import pytest
from temporalio import workflow

from smart_accounts.contract.steps import Sweep, Swept
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
