"""Free ports for the servers that tests start."""

import contextlib
import os
import socket
from collections.abc import Callable
from itertools import cycle
from random import SystemRandom

import pytest

from smart_accounts.local.configuration import free_ports

FreePort = Callable[[], int]
"""Returns a port that no program uses."""

# Each process that runs tests has its own range. The ranges are below those from which systems
# choose the ports of outgoing connections, so that no connection takes a port before its server
# does, and below 20000, where the ports of a local stack begin.
_RANGE = 1000
_FIRST = 10_000 + _RANGE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_ports = cycle(SystemRandom().sample(range(_FIRST, _FIRST + _RANGE), k=_RANGE))


def find_free_port() -> int:
    while True:
        port = next(_ports)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def stack_ports() -> dict[str, int]:
    """Return a free port for each server of a local stack.

    The ports that ``free_ports`` chooses may be chosen by another process at the same time.
    """
    return {name: find_free_port() for name in free_ports()}


@pytest.fixture(scope="session")
def free_port() -> FreePort:
    return find_free_port
