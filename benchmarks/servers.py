"""The programs that a benchmark starts, and the CPU time that they use."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.support.ports import find_free_port
from tests.support.postgres import Postgres
from tests.support.programs import stop_process
from tests.support.temporal_server import DevServer

ROOT = Path(__file__).parents[1]
START_SECONDS = 60
LOOK_EVERY = 0.02  # seconds
KEY = "Benchmarks-sign-their-links-with-this-key"
NO_LIMIT = "1000000000"

Result = TypeVar("Result")


def run(benchmark: Coroutine[Any, Any, Result]) -> Result:
    """Run a benchmark. If a signal ends it, it stops its programs first."""
    for signum in (signal.SIGINT, signal.SIGTERM):  # a shell lets programs in background ignore one
        signal.signal(signum, signal.default_int_handler)
    return asyncio.run(benchmark)


@asynccontextmanager
async def temporal_server(folder: Path) -> AsyncIterator[DevServer]:
    """Run a dev server on a file in ``folder``. It writes to the disk as in ``make run``."""
    file = folder / "temporal.db"
    server = DevServer(find_free_port(), find_free_port(), file, is_durable=True)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def postgresql() -> AsyncIterator[Postgres]:
    """Run PostgreSQL with its default settings."""
    # It may run as another user, who could not read a folder inside a private one.
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder), find_free_port())
        await server.start(is_durable=True)
        try:
            yield server
        finally:
            await server.stop()


class MailSink:
    """The mail server, and the emails that it has received."""

    def __init__(self, pid: int, port: int, file: Path) -> None:
        self.pid = pid
        self.port = port
        self._file = file
        self._end = 0
        self._emails: Counter[str] = Counter()
        self._of_requests: Counter[str] = Counter()

    def count(self) -> int:
        """Return how many emails have arrived, with all copies."""
        self._read()
        return self._emails.total()

    async def until_arrived(self, request_id: str, emails: int) -> None:
        """Wait until so many emails of a request have arrived."""
        while self._of_requests[request_id] < emails:
            await asyncio.sleep(LOOK_EVERY)
            self._read()

    def problem(self, expected: int) -> str | None:
        """Return what is wrong if not exactly so many emails have arrived, each of them once."""
        copies = self.count() - len(self._emails)
        if len(self._emails) == expected and not copies:
            return None
        return f"{len(self._emails)} emails instead of {expected}, and {copies} more copies of them"

    def _read(self) -> None:
        with self._file.open("rb") as file:
            file.seek(self._end)
            new, _, unfinished = file.read().rpartition(b"\n")
            self._end = file.tell() - len(unfinished)
        ids = new.decode().split()
        self._emails.update(ids)
        self._of_requests.update(id_.strip("<").partition(".")[0] for id_ in ids)


@asynccontextmanager
async def mail_sink(folder: Path) -> AsyncIterator[MailSink]:
    port, file = find_free_port(), folder / "emails.txt"
    file.touch()
    command = ("-m", "benchmarks.mail_sink", str(port), str(file))
    async with python("sink", *command, folder=folder, ready="ready") as pid:
        yield MailSink(pid, port, file)


@asynccontextmanager
async def python(
    name: str,
    *arguments: str,
    folder: Path,
    ready: str,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[int]:
    """Run a Python program in ``folder``. Yields its process id once its log says ``ready``."""
    log = folder / f"{name}.log"
    process = start_python(*arguments, folder=folder, log=log, environment=environment or {})
    try:
        async with asyncio.timeout(START_SECONDS):
            while ready not in log.read_text():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} exited. Its log: {log.read_text()}")
                await asyncio.sleep(LOOK_EVERY)
        yield process.pid
    finally:
        await stop_process(process)


def start_python(
    *arguments: str, folder: Path, log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    own = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - the benchmarks choose the arguments
            [sys.executable, *arguments],
            cwd=folder,
            env=inherited | own | dict(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def service_settings(
    temporal: DevServer | None, database_url: str, smtp_port: int
) -> dict[str, str]:
    """Return the environment of a worker. No limit of requests or emails is ever reached."""
    address = {"TEMPORAL_ADDRESS": temporal.address} if temporal else {}
    return address | {
        "TEMPORAL_CONFIG_FILE": os.devnull,
        "SMART_ACCOUNTS_PUBLIC_URL": "http://127.0.0.1:8000",
        "SMART_ACCOUNTS_SECRET_KEYS": KEY,
        "SMART_ACCOUNTS_DATABASE_URL": database_url,
        "SMART_ACCOUNTS_SMTP_HOSTNAME": "127.0.0.1",
        "SMART_ACCOUNTS_SMTP_PORT": str(smtp_port),
        "SMART_ACCOUNTS_SMTP_TLS": "none",
        "SMART_ACCOUNTS_MAIL_FROM": "no-reply@accounts.example",
        "SMART_ACCOUNTS_MAX_OPEN_PER_CUSTOMER": NO_LIMIT,
        "SMART_ACCOUNTS_MAX_OPEN_PER_REQUESTER": NO_LIMIT,
        "SMART_ACCOUNTS_MAX_STARTS_PER_REQUESTER_PER_HOUR": NO_LIMIT,
        "SMART_ACCOUNTS_MAX_EMAILS_PER_MAILBOX_PER_DAY": NO_LIMIT,
        "SMART_ACCOUNTS_MAX_EMAILS_PER_REQUESTER_PER_DAY": NO_LIMIT,
    }


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, of its children and of their children.

    A child that has ended counts too, in the time of its parent.
    """
    root, seconds = psutil.Process(pid), 0.0
    for child in root.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            seconds += _own_seconds(child.cpu_times())
    own = root.cpu_times()
    return seconds + _own_seconds(own) + float(own.children_user + own.children_system)


def _own_seconds(times: Any) -> float:
    return float(times.user + times.system)


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return int(psutil.Process(pid).memory_info().rss)
