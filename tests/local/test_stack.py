import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from smart_accounts.contract.messages import Requester, SmartAccountRequest, Status
from smart_accounts.errors import Unavailable
from smart_accounts.local.configuration import check_ports, free_ports, make_plan
from smart_accounts.local.program import Child
from smart_accounts.temporal.client import RequestClient
from tests.support.real_parts import PatientClient

pytestmark = pytest.mark.server

REQUEST = SmartAccountRequest(
    account_name="Harbour Logistics",
    account_domain="harbour.example",
    customer_email="ada@harbour.example",
    requester=Requester(email="pat@partner.example", name="Pat Lee", company="Partner Ltd"),
)
NAMES = ("smart_accounts.web", "worker.py", "local.provider", "temporal")
COMMAND = [sys.executable, "-m", "smart_accounts.local"]
AS_A_BACKGROUND_COMMAND = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts a script's background command
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
os.execv(sys.argv[1], sys.argv[1:])
"""


def environment(**values: str) -> dict[str, str]:
    """What a newcomer's shell has: none of our settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", "SMART_"))}
    return clean | values


def contents(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def local(home: Path, command: str, **values: str) -> tuple[int, str, str]:
    """Run to the end; return exit status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, command, cwd=home, env=environment(**values), stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@dataclass(frozen=True)
class Stack:
    process: Process
    home: Path
    ports: dict[str, int]

    async def ready(self, within: float = 60) -> str:
        """What it prints once it is ready."""
        assert self.process.stdout
        assert self.process.stderr
        try:
            async with asyncio.timeout(within):
                text = (await self.process.stdout.readuntil(b"Ctrl-C stops it all.")).decode()
        except asyncio.IncompleteReadError:
            pytest.fail((await self.process.stderr.read()).decode())
        assert text.startswith("ready")
        return text

    def parts(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    async def end(self, parts: list[psutil.Process]) -> tuple[int, str]:
        """Wait for its end and see that it leaves nothing; return exit status and errors."""
        assert self.process.stderr
        err = (await self.process.stderr.read()).decode()
        status = await self.process.wait()
        assert [each for each in parts if each.is_running()] == []
        check_ports(self.ports)
        return status, err


async def wait_for_part(stack: Stack, name: str) -> psutil.Process:
    async with asyncio.timeout(40):
        while True:
            for part in stack.parts():
                if name in " ".join(part.cmdline()):
                    return part
            await asyncio.sleep(0.01)


@asynccontextmanager
async def started(home: Path, ports: dict[str, int] | None = None) -> AsyncIterator[Stack]:
    ports = ports or free_ports()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", AS_A_BACKGROUND_COMMAND, *COMMAND, "run"),
        cwd=home,
        env=environment(**{name: str(port) for name, port in ports.items()}),
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )
    try:
        yield Stack(process, home, ports)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        _, err = await process.communicate()
        sys.stderr.write(err.decode())  # shown with a test that failed


async def test_from_the_first_start_to_the_second_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = free_ports()
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{ports['TEMPORAL_PORT']}")
    async with started(tmp_path, ports) as stack:
        text = await ready_only_once_the_web_goes_on(stack, tmp_path)
        await all_parts_answer(stack, text)
        await the_command_it_shows_starts_a_request(stack, text)
        await another_stack_does_not_share_its_data(tmp_path)
        workflow_id = (await (await PatientClient.connect()).start(REQUEST)).workflow_id
        await ends_in_order_by(signal.SIGINT, stack)
    async with started(tmp_path, ports) as stack:
        await ready_only_once_the_worker_goes_on(stack)
        client = await PatientClient.connect()
        async with asyncio.timeout(40):
            while await status(client, workflow_id) is not Status.PENDING:
                await asyncio.sleep(0.1)
        await ends_in_order_by(signal.SIGHUP, stack)


async def ready_only_once_the_web_goes_on(stack: Stack, home: Path) -> str:
    web = await wait_for_part(stack, "smart_accounts.web")
    web.suspend()
    log = home / ".local/logs/worker.log"
    async with asyncio.timeout(40):
        while not log.exists() or "worker ready" not in log.read_text():
            await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        await stack.ready(within=0.5)
    web.resume()
    return await stack.ready()


async def ready_only_once_the_worker_goes_on(stack: Stack) -> None:
    worker = await wait_for_part(stack, "worker.py")
    worker.suspend()
    url = f"http://127.0.0.1:{stack.ports['WEB_PORT']}/readyz"
    async with httpx.AsyncClient() as http, asyncio.timeout(40):
        while not await answers_ok(http, url):  # the first start has migrated the database
            await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        await stack.ready(within=0.5)
    worker.resume()
    await stack.ready()


async def answers_ok(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).status_code == 200
    except httpx.TransportError:
        return False


async def all_parts_answer(stack: Stack, text: str) -> None:
    line = text.splitlines()[0]
    async with httpx.AsyncClient(follow_redirects=True) as client:
        for name, path in (
            ("WEB_PORT", "/readyz"),
            ("TEMPORAL_UI_PORT", "/"),
            ("MAILBOX_PORT", "/api/v1/messages"),
            ("OIDC_PORT", "/.well-known/openid-configuration"),
        ):
            url = f"http://127.0.0.1:{stack.ports[name]}"
            assert url in line
            assert (await client.get(url + path)).status_code == 200
    for name in ("TEMPORAL_PORT", "SMTP_PORT"):
        assert f"127.0.0.1:{stack.ports[name]}" in line
        socket.create_connection(("127.0.0.1", stack.ports[name])).close()


async def the_command_it_shows_starts_a_request(stack: Stack, text: str) -> None:
    command = text.partition("Start a request:\n")[2].partition("\n  Read the emails")[0]
    shell = await asyncio.create_subprocess_shell(command, cwd=stack.home, env=environment())
    assert await shell.wait() == 0
    url = f"http://127.0.0.1:{stack.ports['MAILBOX_PORT']}/api/v1/messages"
    async with httpx.AsyncClient() as client, asyncio.timeout(40):
        while (await client.get(url)).json()["total"] < 2:
            await asyncio.sleep(0.1)


async def another_stack_does_not_share_its_data(home: Path) -> None:
    ports = {name: str(port) for name, port in free_ports().items()}
    status, out, err = await local(home, "run", **ports)
    assert (status, out) == (1, "")
    assert err == f"another local stack is using {home}/.local; stop it first\n"


async def ends_in_order_by(which: signal.Signals, stack: Stack) -> None:
    parts = stack.parts()
    # Sessions of their own: what the terminal sends reaches the supervisor alone.
    assert [os.getsid(each.pid) for each in parts] == [each.pid for each in parts]
    began = time.monotonic()
    os.killpg(stack.process.pid, which)
    await see_them_end_in_order(parts)
    assert await stack.end(parts) == (0, "")
    assert time.monotonic() - began < 20


async def see_them_end_in_order(parts: list[psutil.Process]) -> None:
    named = {next(n for n in NAMES if n in " ".join(each.cmdline())): each for each in parts}
    assert named.keys() == set(NAMES)
    async with asyncio.timeout(40):
        ended: set[str] = set()
        while len(ended) < len(NAMES):
            # The last one first: of two that end during the look, the later can't seem earlier.
            ended = {name for name in reversed(NAMES) if not named[name].is_running()}
            assert ended == set(NAMES[: len(ended)])
            await asyncio.sleep(0.01)


async def status(client: RequestClient, workflow_id: str) -> Status | None:
    """None while the worker, just started, does not answer for the request yet."""
    try:
        return (await client.status(workflow_id)).status
    except Unavailable:
        return None


async def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        async with asyncio.timeout(40):
            while len(parts := stack.parts()) < 2:
                await asyncio.sleep(0.01)
        os.killpg(stack.process.pid, signal.SIGINT)
        assert await stack.end(parts) == (0, "")


async def test_a_part_that_dies_takes_the_rest_with_it_and_is_named(tmp_path: Path) -> None:
    async with started(tmp_path) as stack:
        await stack.ready()
        parts = stack.parts()
        (await wait_for_part(stack, "worker.py")).kill()
        status, err = await stack.end(parts)
    assert status == 1
    assert err.startswith("worker ended by itself by signal 9; its log ends with:")


async def test_a_bad_setting_is_told_from_the_parts_log(tmp_path: Path) -> None:
    ports = {name: str(port) for name, port in free_ports().items()}
    status, out, err = await local(tmp_path, "run", **ports, SMART_ACCOUNTS_MAIL_FROM="nobody")
    assert (status, out) == (1, "")
    assert re.match("(worker|web) ended by itself with exit status 2", err)
    assert "SMART_ACCOUNTS_MAIL_FROM" in err


async def test_a_taken_port_starts_nothing(tmp_path: Path) -> None:
    ports = free_ports()
    values = {name: str(port) for name, port in ports.items()}
    with socket.create_server(("127.0.0.1", ports["WEB_PORT"])):
        status, out, err = await local(tmp_path, "run", **values)
    assert (status, out) == (1, "")
    assert err == (
        f"port {ports['WEB_PORT']} for the web pages is taken; set WEB_PORT to use another one\n"
    )
    assert not (tmp_path / ".local/logs").exists()


async def test_what_does_not_end_is_killed_with_all_it_started(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, os.environ)
    script = 'trap "" TERM; sleep 60 & echo started; while true; do wait; done'
    child = await Child.start(plan, "stubborn", "sh", "-c", script)

    async def is_up() -> bool:
        return "started" in child.log()

    await child.ready(is_up)
    family = [each for each in psutil.Process().children(recursive=True) if each.is_running()]
    family = [each for each in family if each.name() in {"sh", "sleep"}]
    assert len(family) == 2
    began = time.monotonic()
    await child.stop(0.5)
    assert 0.5 <= time.monotonic() - began < 20
    async with asyncio.timeout(5):  # a kill takes a moment
        while any(each.is_running() and each.status() != "zombie" for each in family):
            await asyncio.sleep(0.02)


def events(story: str) -> tuple[str, list[str]]:
    """Its heading, and what happened in the order of time; fails on a line without a time."""
    head, *lines = story.strip().splitlines()
    found = [re.fullmatch(r"  (\d\d:\d\d:\d\d\.\d{3})  (.+)", line) for line in lines]
    assert all(found)
    assert [each[1] for each in found if each] == sorted(each[1] for each in found if each)
    return head, [each[2] for each in found if each]


async def test_the_demo_ends_well_with_both_time_lines(tmp_path: Path) -> None:
    began = time.monotonic()
    status, out, err = await local(
        tmp_path,
        "demo",
        # Nothing of the user's own gets in its way, and it leaves nothing.
        TEMPORAL_ADDRESS="nowhere.example:1",
        SMART_ACCOUNTS_SMTP_HOSTNAME="nowhere.example",
        SMART_ACCOUNTS_DATABASE_URL="nonsense",
        TMPDIR=str(tmp_path),
    )
    assert (status, err) == (0, "")
    assert time.monotonic() - began < 60
    assert contents(tmp_path) == []

    _, accepted, lapsed, _ = out.split("\n\n")
    head, happened = events(accepted)
    assert head == "Harbour Logistics (harbour.example): active; times in UTC"
    assert happened[0].startswith("requested; to be accepted by ")
    assert set(happened[1:3]) == {
        "email activation to ada@harbour.example sent",
        "email request-received to pat@partner.example sent",
    }
    assert happened[3:5] == ["accepted by the customer", "active"]
    assert set(happened[5:]) == {
        "email activated to pat@partner.example sent",
        "email welcome to ada@harbour.example sent",
        "email access-granted to bo@harbour.example sent",
    }
    head, happened = events(lapsed)
    assert head == "Meadow Farms (meadow.example): lapsed; times in UTC"
    assert happened[3] == "lapsed: nobody answered in time"
    assert set(happened[4:]) == {
        "email lapsed to eve@meadow.example sent",
        "email lapsed to kim@reseller.example sent",
    }


async def test_a_demo_that_is_interrupted_did_not_end_well(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "demo", env=environment(TMPDIR=str(tmp_path)), stdout=PIPE, stderr=PIPE
    )
    async with asyncio.timeout(40):
        while not psutil.Process(process.pid).children():
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (1, "the demo was interrupted\n")
    assert contents(tmp_path) == []
