"""Our programs as processes of their own, without the wait for Python and its imports.

They are forked from a process that has imported them already, which saves 1.7 s of CPU time for
each start. The tests in ``tests/local`` start them as a user does.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["worker", "smart_accounts.web.app", "smart_accounts.web.http.server", "starter"]
)


class Program:
    """One run of a program, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(
        self, *command: str | Path, cwd: Path, env: dict[str, str], out: Path, err: Path
    ) -> None:
        """Start it. The files ``out`` and ``err`` get its output; they may be the same file."""
        out.touch()
        err.touch()
        words = [str(word) for word in command]
        self._process = _context.Process(target=_run, args=(words, cwd, env, out, err), daemon=True)
        self._process.start()
        self._words = words

    def poll(self) -> int | None:
        """Return the exit status (negative for a signal), or ``None`` while the program runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> int:
        """Return the exit status.

        Raises:
            subprocess.TimeoutExpired: the program still runs after so many seconds.
        """
        self._process.join(seconds)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(self._words, seconds)
        return status

    def send_signal(self, signum: int) -> None:
        if self._process.pid and self.poll() is None:
            os.kill(self._process.pid, signum)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _run(words: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), stream.fileno())
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a text file
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
