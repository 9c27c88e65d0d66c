"""Debian's pgbouncer in transaction mode, in front of the PostgreSQL server of the tests."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.ports import FreePort
from tests.support.postgres import Postgres
from tests.support.programs import stop_process

UNPACKED = Path(sys.prefix) / "debian"
"""Where ``make tools`` unpacks the package and its libraries if it is not installed."""
PLACES = os.pathsep.join([os.environ["PATH"], "/usr/sbin", str(UNPACKED / "usr" / "sbin")])
CONNECTIONS = 3  # fewer than a store has, so that transactions change their connection

SETTINGS = """
[databases]
* = host=127.0.0.1 port={postgres_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
"""


@pytest.fixture
async def pgbouncer_url(
    postgres: Postgres, free_port: FreePort, tmp_path: Path
) -> AsyncIterator[str]:
    """The URL of an empty database behind pgbouncer."""
    program = shutil.which("pgbouncer", path=PLACES)
    assert program, "pgbouncer is missing: make tools"
    port, settings = free_port(), tmp_path / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(postgres_port=postgres.port, port=port, connections=CONNECTIONS)
    )
    environment = dict(os.environ)
    if Path(program).is_relative_to(UNPACKED):
        libraries = {str(file.parent) for file in UNPACKED.rglob("*.so.*")}
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    with (tmp_path / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *(["-u", "nobody"] if os.geteuid() == 0 else []), settings],
            env=environment,
            stderr=log,
        )
    async with asyncio.timeout(40):
        while not await _accepts_connections(port):
            assert process.poll() is None, (tmp_path / "pgbouncer.log").read_text()
            await asyncio.sleep(0.05)
    yield postgres.new_database().replace(f":{postgres.port}/", f":{port}/")
    await stop_process(process)


async def _accepts_connections(port: int) -> bool:
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False
