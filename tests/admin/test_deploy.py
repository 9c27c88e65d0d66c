"""A deploy that is stopped while it checks the workers of the new version."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from smart_accounts.admin import deploy
from smart_accounts.errors import Rejected

OLD, NEW = (WorkerDeploymentVersion("smart-accounts", build_id) for build_id in ("v1", "v2"))


class Deployment:
    """The current version. The deploy is stopped during the check, and again while it goes back."""

    def __init__(self, stop: Callable[[], object], stop_again: Callable[[], object]) -> None:
        self.current = OLD
        self._stop = stop
        self._stop_again = stop_again

    async def set_current(self, _: object, __: str, version: WorkerDeploymentVersion) -> None:
        if version == OLD:
            self._stop_again()
            for _round in range(5):  # let the event loop notice the signal
                await asyncio.sleep(0)
        self.current = version

    async def get_current(self, *_: object) -> WorkerDeploymentVersion:
        return self.current

    async def check(self, *_: object) -> None:
        assert self.current == NEW
        self._stop()
        await asyncio.Event().wait()

    async def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deploy, "set_current_version", self.set_current)
        monkeypatch.setattr(deploy, "current_version", self.get_current)
        monkeypatch.setattr(deploy, "check_that_workers_respond", self.check)
        await deploy._make_current(cast(Client, None), NEW, OLD, None)


@pytest.fixture
async def unhandled() -> AsyncIterator[list[int]]:
    """Yields the signals that would have killed this process."""
    found: list[int] = []

    def note(number: int, _: Any) -> None:
        found.append(number)
        raise InterruptedError

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, note) for number in numbers]
    yield found
    for number, handler in zip(numbers, before, strict=True):
        asyncio.get_running_loop().remove_signal_handler(number)
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_goes_back_at_a_signal_also_if_it_comes_twice(
    number: signal.Signals, unhandled: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = Deployment(*[lambda: signal.raise_signal(number)] * 2)
    with pytest.raises(Rejected, match=r"^The deploy was stopped\. The current .*\.v1\.$"):
        await deployment.run(monkeypatch)
    assert (deployment.current, unhandled) == (OLD, [])


@pytest.mark.usefixtures("unhandled")
async def test_goes_back_at_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C cancels the task of the command."""
    task = asyncio.current_task()
    assert task
    deployment = Deployment(task.cancel, lambda: None)
    try:
        with pytest.raises(asyncio.CancelledError):
            await deployment.run(monkeypatch)
    finally:
        task.uncancel()
    assert deployment.current == OLD


@pytest.mark.usefixtures("unhandled")
async def test_nohup_keeps_a_deploy_running(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    deployment = Deployment(lambda: None, lambda: None)

    async def check(*_: object) -> None:
        signal.raise_signal(signal.SIGHUP)
        for _round in range(5):
            await asyncio.sleep(0)

    monkeypatch.setattr(deployment, "check", check)
    await deployment.run(monkeypatch)
    assert deployment.current == NEW
