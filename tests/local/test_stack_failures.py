import asyncio
import os
import re
import socket
import time
from pathlib import Path

import psutil
import pytest

from smart_accounts.local.configuration import configure
from smart_accounts.local.program import Program
from tests.support.local_stack import STACK_COMMAND, run, start_stack
from tests.support.ports import stack_ports

pytestmark = pytest.mark.server


async def test_part_that_is_killed_is_named(tmp_path: Path) -> None:
    script = "echo working; kill -9 $$"
    program = await Program.start(configure(tmp_path, os.environ), "worker", "sh", "-c", script)
    failure = await program.unexpected_exit()
    assert str(failure) == "worker was killed by signal 9; its log ends with:\n  working"


@pytest.mark.full  # the tests before and after it are shorter
async def test_part_that_dies_stops_the_stack_and_is_named(tmp_path: Path) -> None:
    async with start_stack(tmp_path) as stack:
        await stack.ready()
        programs = stack.programs()
        (await stack.wait_for_program("worker.py")).kill()
        status, err = await stack.wait_for_exit(programs)
    assert status == 1
    assert err.startswith("worker was killed by signal 9; its log ends with:")


async def test_bad_setting_is_shown_from_the_log(tmp_path: Path) -> None:
    values = {name: str(port) for name, port in stack_ports().items()}
    values["SMART_ACCOUNTS_MAIL_FROM"] = "nobody"
    status, out, err = await run(*STACK_COMMAND, "run", cwd=tmp_path, **values)
    assert (status, out) == (1, "")
    assert re.match("(worker|web) exited with status 2", err)
    assert "SMART_ACCOUNTS_MAIL_FROM" in err


async def test_port_in_use_starts_nothing(tmp_path: Path) -> None:
    ports = stack_ports()
    values = {name: str(port) for name, port in ports.items()}
    with socket.create_server(("127.0.0.1", ports["WEB_PORT"])):
        status, out, err = await run(*STACK_COMMAND, "run", cwd=tmp_path, **values)
    assert (status, out) == (1, "")
    assert err == (
        f"port {ports['WEB_PORT']} for the web pages is in use; set WEB_PORT to another port\n"
    )
    assert not (tmp_path / ".local/logs").exists()


async def test_program_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    script = 'trap "" TERM; sleep 60 & echo started; while true; do wait; done'
    program = await Program.start(configure(tmp_path, os.environ), "stubborn", "sh", "-c", script)

    async def is_started() -> bool:
        return "started" in program.log()

    await program.wait_until(is_started)
    family = [each for each in psutil.Process().children(recursive=True) if each.is_running()]
    family = [each for each in family if each.name() in {"sh", "sleep"}]
    assert len(family) == 2
    began = time.monotonic()
    await program.stop(0.5)
    assert 0.5 <= time.monotonic() - began < 20
    async with asyncio.timeout(5):  # the kill takes a moment
        while any(each.is_running() and each.status() != "zombie" for each in family):
            await asyncio.sleep(0.02)
