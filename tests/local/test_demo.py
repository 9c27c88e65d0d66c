import asyncio
import os
import re
import signal
import tempfile
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import psutil
import pytest
from temporalio.client import Client

from smart_accounts.contract.messages import RequestStatus
from smart_accounts.errors import NoResponse
from smart_accounts.local import demo
from smart_accounts.local.configuration import StackConfiguration, configure
from smart_accounts.settings import load_client_settings
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.records import Started
from tests.support.keys import KEY
from tests.support.local_stack import STACK_COMMAND, RunningStack, new_environment, run

pytestmark = pytest.mark.server

# The demo must ignore the user's settings.
SETTINGS = {
    "TEMPORAL_ADDRESS": "nowhere.example:1",
    "SMART_ACCOUNTS_SMTP_HOSTNAME": "nowhere.example",
    "SMART_ACCOUNTS_DATABASE_URL": "nonsense",
}


def contents(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def parse(timeline: str) -> tuple[str, list[str]]:
    """Return the heading and the events. Every line must have a time, in ascending order."""
    heading, *lines = timeline.strip().splitlines()
    found = [re.fullmatch(r"  (\d\d:\d\d:\d\d\.\d{3})  (.+)", line) for line in lines]
    assert all(found)
    times = [each[1] for each in found if each]
    assert times == sorted(times)
    return heading, [each[2] for each in found if each]


def check_timelines(out: str) -> None:
    _, accepted, lapsed, _ = out.split("\n\n")
    heading, events = parse(accepted)
    assert heading == "Harbour Logistics (harbour.example): active; times in UTC"
    assert events[0].startswith("requested; to be accepted by ")
    assert set(events[1:3]) == {
        "email activation to ada@harbour.example sent",
        "email request-received to pat@partner.example sent",
    }
    assert events[3:5] == ["accepted by the customer", "active"]
    assert set(events[5:]) == {
        "email activated to pat@partner.example sent",
        "email welcome to ada@harbour.example sent",
        "email access-granted to bo@harbour.example sent",
    }
    heading, events = parse(lapsed)
    assert heading == "Meadow Farms (meadow.example): lapsed; times in UTC"
    assert events[3] == "lapsed: the customer did not answer in time"
    assert set(events[4:]) == {
        "email lapsed to eve@meadow.example sent",
        "email lapsed to kim@reseller.example sent",
    }


@pytest.mark.full  # the tests after it show the same without the start of a stack
async def test_demo_prints_both_timelines(tmp_path: Path) -> None:
    began = time.monotonic()
    status, out, err = await run(
        *STACK_COMMAND, "demo", cwd=tmp_path, TMPDIR=str(tmp_path), **SETTINGS
    )
    assert (status, err) == (0, "")
    assert time.monotonic() - began < 60
    assert contents(tmp_path) == []
    check_timelines(out)


class LosesFirstResponses(RequestClient):
    """The first start and the first query of each request get no response in time."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._called: set[str] = set()

    async def start(self, *given: Any, **options: Any) -> Started:
        started = await super().start(*given, **options)
        self._lose_first(f"start {started.workflow_id}")
        return started

    async def status(self, *given: Any, **options: Any) -> RequestStatus:
        self._lose_first(f"status {given}")
        return await super().status(*given, **options)

    def _lose_first(self, call: str) -> None:
        if call not in self._called:
            self._called.add(call)
            raise NoResponse("Temporal does not respond.")


async def test_both_timelines_on_a_running_stack(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = {name: str(port) for name, port in stack.ports.items()}
    configuration = configure(stack.home, new_environment(**ports))
    monkeypatch.setenv("TEMPORAL_ADDRESS", configuration.temporal_address)
    monkeypatch.setattr(demo, "RequestClient", LosesFirstResponses)
    await demo._run_requests(configuration)
    check_timelines(capsys.readouterr().out)


async def test_demo_runs_only_its_own_parts_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The demo removes and sets variables. Other tests of this process need theirs.
    monkeypatch.setattr(os, "environ", new_environment(**SETTINGS))
    folder = tmp_path / "folder"
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    folder.mkdir()
    (tmp_path / ".env").write_text(f"SMART_ACCOUNTS_PAYLOAD_KEYS={KEY}\n")
    monkeypatch.chdir(tmp_path)

    async def look(stack: StackConfiguration, body: object) -> bool:
        assert [stack.home] == contents(folder)
        assert not load_client_settings().payload_keys
        assert stack.has_temporal
        assert stack.has_mailbox
        assert not set(SETTINGS.values()) & set(stack.environment.values())
        assert os.environ["TEMPORAL_ADDRESS"] == stack.temporal_address
        return True

    monkeypatch.setattr(demo, "supervise", look)
    await demo.demo()
    assert contents(folder) == []
    assert Path.cwd() == tmp_path


async def test_interrupted_demo_fails_and_leaves_no_files(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *STACK_COMMAND,
        "demo",
        env=new_environment(TMPDIR=str(tmp_path)),
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(40):
        while not psutil.Process(process.pid).children():
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (1, "the demo was interrupted\n")
    assert contents(tmp_path) == []
