"""The local stack: all its parts as one tree that starts and stops together."""

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
from smart_accounts.local.configuration import HOST, ROOT, Plan, check_ports
from smart_accounts.local.http_client import call
from smart_accounts.local.mailbox_server import serve_mailbox
from smart_accounts.local.people import provider_command
from smart_accounts.local.program import Child

# Together with the mailbox's second less than the ten that a Ctrl-C may take.
WEB_STOP_SECONDS = 1.5
WORKER_STOP_SECONDS = 4.5
TEMPORAL_STOP_SECONDS = 2.25
PROVIDER_STOP_SECONDS = 0.25  # it keeps nothing

_PYTHON = Path(sys.executable)


async def supervise(plan: Plan, body: Callable[[], Awaitable[None]]) -> bool:
    """Start every part, run ``body`` once all answer, then stop every part in order.

    Returns whether ``body`` came to its end; a signal ends it early.

    Raises:
        SmartAccountsError: a port is taken, or a part died.
    """
    loop = asyncio.get_running_loop()
    over: Future[None] = loop.create_future()
    # Also where a shell started us with SIGINT ignored; nohup means what it says, though.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:
            loop.add_signal_handler(each, _end, over)
    with _alone(plan.data):
        check_ports(plan.ports)
        async with AsyncExitStack() as parts:
            work = asyncio.create_task(_start_and_run(plan, parts, over, body))
            await asyncio.wait({work, over}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            await asyncio.wait({work})  # nothing is started any more when the stopping begins
    if over.done():
        over.result()
        return False
    work.result()
    return True


def _end(over: Future[None], failure: SmartAccountsError | None = None) -> None:
    if over.done():
        return  # the first reason counts
    if failure:
        over.set_exception(failure)
    else:
        over.set_result(None)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Two stacks on the same SQLite files would spoil them."""
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SmartAccountsError(
                f"another local stack is using {data}; stop it first"
            ) from None
        yield


async def _start_and_run(
    plan: Plan, parts: AsyncExitStack, over: Future[None], body: Callable[[], Awaitable[None]]
) -> None:
    async def start(name: str, seconds: float, *command: str | Path) -> Child:
        child = await Child.start(plan, name, *command)
        parts.push_async_callback(child.stop, seconds)
        watch = asyncio.create_task(child.ended())
        watch.add_done_callback(
            lambda done: None if done.cancelled() else _end(over, done.result())
        )
        parts.callback(watch.cancel)  # runs before the stop above: that end is wanted
        return child

    if plan.has_mailbox:
        smtp, pages = plan.ports["SMTP_PORT"], plan.ports["MAILBOX_PORT"]
        await parts.enter_async_context(serve_mailbox(smtp, pages))
    if plan.has_temporal:
        temporal = await start("temporal", TEMPORAL_STOP_SECONDS, *_temporal_command(plan))
        await temporal.ready(lambda: _listens(plan.ports["TEMPORAL_PORT"]))
        await temporal.ready(lambda: _answers(plan.url("TEMPORAL_UI_PORT")))
    if plan.has_provider:
        port = plan.ports["OIDC_PORT"]
        provider = await start("provider", PROVIDER_STOP_SECONDS, *provider_command(port))
    worker = await start("worker", WORKER_STOP_SECONDS, _PYTHON, ROOT / "worker.py")
    web = await start("web", WEB_STOP_SECONDS, _PYTHON, "-m", "smart_accounts.web")
    if plan.has_provider:
        discovery = plan.url("OIDC_PORT") + "/.well-known/openid-configuration"
        await provider.ready(lambda: _answers(discovery))
    await worker.ready(lambda: _says_ready(worker))
    await web.ready(lambda: _answers(plan.url("WEB_PORT") + "/readyz"))
    await body()


def _temporal_command(plan: Plan) -> list[str | Path]:
    return [
        _PYTHON.with_name("temporal"),
        *("server", "start-dev", "--ip", HOST, "--log-level", "error", "--ui-disable-news-fetch"),
        *("--db-filename", plan.data / "temporal.db"),
        *("--port", str(plan.ports["TEMPORAL_PORT"])),
        *("--ui-port", str(plan.ports["TEMPORAL_UI_PORT"])),
        *(f"--search-attribute={name}={kind}" for name, kind in SEARCH_ATTRIBUTES.items()),
    ]


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def _answers(url: str) -> bool:
    try:
        status, _ = await call(url)
    except (OSError, HTTPException):
        return False
    return status == 200


async def _says_ready(worker: Child) -> bool:
    return "worker ready" in worker.log()
