"""One program of the local stack. It has a session of its own and writes to a log file."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from smart_accounts.errors import SmartAccountsError
from smart_accounts.local.configuration import StackConfiguration

START_SECONDS = 60
POLL_SECONDS = 0.05
LOG_LINES = 20


class PartFailed(SmartAccountsError):
    """A part of the stack exited or did not start in time. The message has the end of its log."""


class Program:
    def __init__(self, name: str, process: Process, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, stack: StackConfiguration, name: str, *command: str | Path) -> Self:
        log = stack.data / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                cwd=stack.home,
                env={**stack.environment, "PYTHONUNBUFFERED": "1"},
                # Ctrl-C goes to the whole process group of the terminal. In a session of its own
                # the program does not get it, so the supervisor decides the order of stopping.
                start_new_session=True,
            )
        return cls(name, process, log)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _failure(self, what: str) -> PartFailed:
        last = [line for line in self.log().splitlines() if line.strip()][-LOG_LINES:]
        if not last:
            return PartFailed(f"{self._name} {what}; its log is empty")
        lines = "".join(f"\n  {line}" for line in last)
        return PartFailed(f"{self._name} {what}; its log ends with:{lines}")

    async def unexpected_exit(self) -> PartFailed:
        """Wait until the program exits by itself, and return the error to raise."""
        status = await self._process.wait()
        if status < 0:
            return self._failure(f"was killed by signal {-status}")
        return self._failure(f"exited with status {status}")

    async def wait_until(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait until ``is_ready`` returns true.

        Raises:
            PartFailed: the program was not ready in time.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await is_ready():  # noqa: ASYNC110, another program sets no event here
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise self._failure(f"was not ready within {START_SECONDS} s") from None

    async def stop(self, seconds: float) -> None:
        """Terminate the program. After ``seconds``, kill it and every program it started."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        # These errors mean that the whole process group has already exited.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
