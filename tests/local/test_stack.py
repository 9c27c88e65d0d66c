import asyncio
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from smart_accounts.contract.messages import Requester, SmartAccountRequest, Status
from smart_accounts.errors import Unavailable
from smart_accounts.temporal.client import RequestClient
from tests.support.local_stack import (
    STACK_COMMAND,
    RunningStack,
    new_environment,
    run,
    start_stack,
)
from tests.support.patient_client import PatientClient
from tests.support.ports import stack_ports

pytestmark = pytest.mark.server

REQUEST = SmartAccountRequest(
    account_name="Harbour Logistics",
    account_domain="harbour.example",
    customer_email="ada@harbour.example",
    requester=Requester(email="pat@partner.example", name="Pat Lee", company="Partner Ltd"),
)
PROGRAMS = ("smart_accounts.web", "worker.py", "local.provider", "temporal")
"""Part of each program's command line, in the order in which they must stop."""


async def test_stack_from_start_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated_database: Path, full: bool
) -> None:
    """With ``--full``, the stack starts again with its request, as in ``test_upgrade.py``."""
    ports = stack_ports()
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{ports['TEMPORAL_PORT']}")
    (tmp_path / ".local").mkdir()
    shutil.copy(migrated_database, tmp_path / ".local" / "accounts.db")
    async with start_stack(tmp_path, ports) as stack:
        announcement = await check_ready_waits_for_worker_and_web(stack)
        await check_all_parts_respond(stack, announcement)
        await check_announced_command_starts_a_request(stack, announcement)
        await check_second_stack_is_rejected(tmp_path)
        started = await (await PatientClient.connect()).start(REQUEST)
        await check_stops_in_order(stack, signal.SIGHUP)
    files = (tmp_path / ".local").glob("temporal.db*")  # with SQLite's journal
    assert any(started.workflow_id.encode() in each.read_bytes() for each in files)
    if not full:
        return
    async with start_stack(tmp_path, ports) as stack:
        await stack.ready()
        client = await PatientClient.connect()
        async with asyncio.timeout(40):
            while await status(client, started.workflow_id) is not Status.PENDING:
                await asyncio.sleep(0.1)
        await check_stops_in_order(stack, signal.SIGINT)


async def check_ready_waits_for_worker_and_web(stack: RunningStack) -> str:
    web = await stack.wait_for_program("smart_accounts.web")
    worker = await stack.wait_for_program("worker.py")
    worker.suspend()
    url = stack.url("WEB_PORT") + "/readyz"
    async with httpx.AsyncClient() as http, asyncio.timeout(40):
        # The web needs no worker here, because the database is migrated.
        while not await responds(http, url):
            await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        await stack.ready(within=0.5)
    web.suspend()
    worker.resume()
    log = stack.home / ".local/logs/worker.log"
    async with asyncio.timeout(40):
        while "worker ready" not in log.read_text():
            await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        await stack.ready(within=0.5)
    web.resume()
    return await stack.ready()


async def responds(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.TransportError:
        return False


async def check_all_parts_respond(stack: RunningStack, announcement: str) -> None:
    line = announcement.splitlines()[0]
    async with httpx.AsyncClient(follow_redirects=True) as client:
        for name, path in (
            ("WEB_PORT", "/readyz"),
            ("TEMPORAL_UI_PORT", "/"),
            ("MAILBOX_PORT", "/api/v1/messages"),
            ("OIDC_PORT", "/.well-known/openid-configuration"),
        ):
            assert stack.url(name) in line
            assert (await client.get(stack.url(name) + path)).status_code == 200
    for name in ("TEMPORAL_PORT", "SMTP_PORT"):
        assert f"127.0.0.1:{stack.ports[name]}" in line
        socket.create_connection(("127.0.0.1", stack.ports[name])).close()


async def check_announced_command_starts_a_request(stack: RunningStack, announcement: str) -> None:
    command = announcement.partition("Start a request:\n")[2].partition("\n  Read the emails")[0]
    shell = await asyncio.create_subprocess_shell(command, cwd=stack.home, env=new_environment())
    assert await shell.wait() == 0
    url = stack.url("MAILBOX_PORT") + "/api/v1/messages"
    async with httpx.AsyncClient() as client, asyncio.timeout(40):
        while (await client.get(url)).json()["total"] < 2:
            await asyncio.sleep(0.1)


async def check_second_stack_is_rejected(home: Path) -> None:
    ports = {name: str(port) for name, port in stack_ports().items()}
    status, out, err = await run(*STACK_COMMAND, "run", cwd=home, **ports)
    assert (status, out) == (1, "")
    assert err == f"another local stack is using {home}/.local; stop it first\n"


async def check_stops_in_order(stack: RunningStack, signum: signal.Signals) -> None:
    programs = stack.programs()
    # Each program has its own session, so a signal from the terminal reaches the supervisor alone.
    assert [os.getsid(each.pid) for each in programs] == [each.pid for each in programs]
    began = time.monotonic()
    os.killpg(stack.process.pid, signum)
    await watch_them_stop(programs)
    assert await stack.wait_for_exit(programs) == (0, "")
    assert time.monotonic() - began < 20


async def watch_them_stop(programs: list[psutil.Process]) -> None:
    named = {next(n for n in PROGRAMS if n in " ".join(p.cmdline())): p for p in programs}
    assert named.keys() == set(PROGRAMS)
    async with asyncio.timeout(40):
        stopped: set[str] = set()
        while len(stopped) < len(PROGRAMS):
            # Check the last one first. Otherwise two that stop during the check could appear to
            # stop in the wrong order.
            stopped = {name for name in reversed(PROGRAMS) if not named[name].is_running()}
            assert stopped == set(PROGRAMS[: len(stopped)])
            await asyncio.sleep(0.01)


async def status(client: RequestClient, workflow_id: str) -> Status | None:
    """Return the status, or None while the worker cannot handle queries yet."""
    try:
        return (await client.status(workflow_id)).status
    except Unavailable:
        return None


async def test_ctrl_c_during_the_start_stops_everything(tmp_path: Path) -> None:
    async with start_stack(tmp_path) as stack:
        async with asyncio.timeout(40):
            while len(programs := stack.programs()) < 2:
                await asyncio.sleep(0.05)
        os.killpg(stack.process.pid, signal.SIGINT)
        assert await stack.wait_for_exit(programs) == (0, "")
