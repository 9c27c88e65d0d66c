"""Run the project's programs as separate processes, without waiting for Python to import them.

They are forked from a process that has already imported everything. That saves 2 s of CPU time per
start. The tests in ``tests/local`` start the programs as a user does instead.
"""

import asyncio
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "worker",
        "smart_accounts.web.app",
        "smart_accounts.web.http.server",
        "starter",
        "smart_accounts.admin.deploy",
        "smart_accounts.admin.erase",
        "smart_accounts.admin.resend",
        # What the programs import only when they need it:
        "alembic.command",
        "rich.markdown",
        "rich.traceback",
    ]
)


class Program:
    """One running program, with those methods of ``subprocess.Popen`` that the tests use."""

    def __init__(
        self, *command: str | Path, cwd: Path, env: dict[str, str], out: Path, err: Path
    ) -> None:
        """Start the program. ``out`` and ``err`` get its output, and may be the same file."""
        out.touch()
        err.touch()
        arguments = [str(word) for word in command]
        self._process = _context.Process(
            target=_run, args=(arguments, cwd, env, out, err), daemon=True
        )
        self._process.start()
        self.arguments = arguments

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the program runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        """Wait for the program and return its exit status.

        Raises:
            subprocess.TimeoutExpired: the program still runs after ``seconds``.
        """
        self._process.join(seconds)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(self.arguments, seconds)
        return status

    def send_signal(self, signum: int) -> None:
        if self._process.pid and self.poll() is None:
            os.kill(self._process.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


async def stop_process(
    process: subprocess.Popen[bytes] | Program, signum: int = signal.SIGTERM
) -> int:
    """Send a signal and return the exit status.

    This waits in a thread, because the mail server of the tests runs in this process and must
    still reply to the worker.
    """
    process.send_signal(signum)
    return await asyncio.to_thread(process.wait, 30)


def _run(
    arguments: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream.fileno())
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text file
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
