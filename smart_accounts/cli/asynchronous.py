"""Coroutine functions as commands."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any


def asynchronous(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let Typer run a coroutine function as a command."""

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        asyncio.run(command(**arguments))

    return run
