"""One program of the local stack, in a session of its own, with its output in a log file."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from smart_accounts.errors import SmartAccountsError
from smart_accounts.local.configuration import Plan

START_SECONDS = 60
POLL_SECONDS = 0.05
LOG_LINES = 20


class PartFailed(SmartAccountsError):
    """A part of the stack ended by itself or never answered; the message has its last words."""


class Child:
    def __init__(self, name: str, process: Process, log: Path) -> None:
        self._name = name
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, plan: Plan, name: str, *command: str | Path) -> Self:
        log = plan.data / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                cwd=plan.home,
                env={**plan.environment, "PYTHONUNBUFFERED": "1"},
                # Ctrl-C goes to the terminal's process group; the order of stopping is ours.
                start_new_session=True,
            )
        return cls(name, process, log)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _failure(self, what: str) -> PartFailed:
        last = [line for line in self.log().splitlines() if line.strip()][-LOG_LINES:]
        said = "".join(f"\n  {line}" for line in last) or " nothing"
        return PartFailed(f"{self._name} {what}; its log ends with:{said}")

    async def ended(self) -> PartFailed:
        """Wait for the end of the program, which is never wanted, and say what happened."""
        status = await self._process.wait()
        how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
        return self._failure(f"ended by itself {how}")

    async def ready(self, probe: Callable[[], Awaitable[bool]]) -> None:
        """Return once the probe says yes.

        Raises:
            PartFailed: it did not in time.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await probe():  # noqa: ASYNC110, another program sets no event here
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise self._failure(f"did not answer within {START_SECONDS} s") from None

    async def stop(self, seconds: float) -> None:
        """Ask it to end; after that many seconds, kill it and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, as it should be
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
