"""The local stack. Its parts start and stop together."""

import asyncio
import fcntl
import signal
import sys
from asyncio import Future
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path

from smart_accounts.contract.names import SEARCH_ATTRIBUTES
from smart_accounts.errors import SmartAccountsError
from smart_accounts.local.configuration import HOST, ROOT, StackConfiguration, check_ports
from smart_accounts.local.http_client import request
from smart_accounts.local.mailbox_server import serve_mailbox
from smart_accounts.local.people import provider_command
from smart_accounts.local.program import Program

# With one second for the mailbox, the sum is 9.5. After Ctrl-C the stack may take 10 seconds.
WEB_STOP_SECONDS = 1.5
WORKER_STOP_SECONDS = 4.5
TEMPORAL_STOP_SECONDS = 2.25
PROVIDER_STOP_SECONDS = 0.25  # short, because the provider has no data to save

_PYTHON = Path(sys.executable)


async def supervise(stack: StackConfiguration, body: Callable[[], Awaitable[None]]) -> bool:
    """Start every part, run ``body`` once all are ready, then stop every part in order.

    Returns True if ``body`` finished, and False if a signal stopped it early.

    Raises:
        SmartAccountsError: a port is in use, or a part exited.
    """
    loop = asyncio.get_running_loop()
    stopped: Future[None] = loop.create_future()
    # A shell starts background commands with SIGINT ignored, but it must stop the stack even then.
    # If SIGHUP is ignored, the stack was started by nohup and must keep running.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signum is not signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
            loop.add_signal_handler(signum, _finish, stopped)
    with _locked(stack.data):
        check_ports(stack.ports)
        async with AsyncExitStack() as parts:
            work = asyncio.create_task(_start_and_run(stack, parts, stopped, body))
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            await asyncio.wait({work})  # after this, no further part can start
    if stopped.done():
        stopped.result()
        return False
    work.result()
    return True


def _finish(stopped: Future[None], failure: SmartAccountsError | None = None) -> None:
    if stopped.done():
        return  # the first reason counts
    if failure:
        stopped.set_exception(failure)
    else:
        stopped.set_result(None)


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Keep a second stack away, because it would corrupt the SQLite files of the first."""
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SmartAccountsError(
                f"another local stack is using {data}; stop it first"
            ) from None
        yield


async def _start_and_run(
    stack: StackConfiguration,
    parts: AsyncExitStack,
    stopped: Future[None],
    body: Callable[[], Awaitable[None]],
) -> None:
    async def start(name: str, stop_seconds: float, *command: str | Path) -> Program:
        program = await Program.start(stack, name, *command)
        parts.push_async_callback(program.stop, stop_seconds)
        watch = asyncio.create_task(program.unexpected_exit())
        watch.add_done_callback(
            lambda done: None if done.cancelled() else _finish(stopped, done.result())
        )
        # Callbacks run in reverse order, so the watch ends before the program is stopped.
        parts.callback(watch.cancel)
        return program

    if stack.has_mailbox:
        smtp, pages = stack.ports["SMTP_PORT"], stack.ports["MAILBOX_PORT"]
        await parts.enter_async_context(serve_mailbox(smtp, pages))
    if stack.has_temporal:
        temporal = await start("temporal", TEMPORAL_STOP_SECONDS, *_temporal_command(stack))
        await temporal.wait_until(lambda: _accepts_connections(stack.ports["TEMPORAL_PORT"]))
        await temporal.wait_until(lambda: _responds(stack.url("TEMPORAL_UI_PORT")))
    if stack.has_provider:
        port = stack.ports["OIDC_PORT"]
        provider = await start("provider", PROVIDER_STOP_SECONDS, *provider_command(port))
    worker = await start("worker", WORKER_STOP_SECONDS, _PYTHON, ROOT / "worker.py")
    web = await start("web", WEB_STOP_SECONDS, _PYTHON, "-m", "smart_accounts.web")
    if stack.has_provider:
        discovery = stack.url("OIDC_PORT") + "/.well-known/openid-configuration"
        await provider.wait_until(lambda: _responds(discovery))
    await worker.wait_until(lambda: _logged_ready(worker))
    await web.wait_until(lambda: _responds(stack.url("WEB_PORT") + "/readyz"))
    await body()


def _temporal_command(stack: StackConfiguration) -> list[str | Path]:
    return [
        _PYTHON.with_name("temporal"),
        "server",
        "start-dev",
        f"--ip={HOST}",
        f"--port={stack.ports['TEMPORAL_PORT']}",
        f"--ui-port={stack.ports['TEMPORAL_UI_PORT']}",
        f"--db-filename={stack.data / 'temporal.db'}",
        "--log-level=error",
        "--ui-disable-news-fetch",
        *(f"--search-attribute={name}={kind}" for name, kind in SEARCH_ATTRIBUTES.items()),
    ]


async def _accepts_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def _responds(url: str) -> bool:
    try:
        status, _ = await request(url)
    except (OSError, HTTPException):
        return False
    return status == 200


async def _logged_ready(worker: Program) -> bool:
    return "worker ready" in worker.log()
