import asyncio
import re
import signal
import time
from asyncio.subprocess import PIPE
from pathlib import Path

import psutil
import pytest

from tests.support.local_stack import STACK_COMMAND, new_environment, run

pytestmark = pytest.mark.server


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


async def test_demo_prints_both_timelines(tmp_path: Path) -> None:
    began = time.monotonic()
    status, out, err = await run(
        *STACK_COMMAND,
        "demo",
        cwd=tmp_path,
        # The demo must ignore the user's settings and leave no files.
        TEMPORAL_ADDRESS="nowhere.example:1",
        SMART_ACCOUNTS_SMTP_HOSTNAME="nowhere.example",
        SMART_ACCOUNTS_DATABASE_URL="nonsense",
        TMPDIR=str(tmp_path),
    )
    assert (status, err) == (0, "")
    assert time.monotonic() - began < 60
    assert contents(tmp_path) == []

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
