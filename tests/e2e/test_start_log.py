"""The worker's log at its start says why the database or Temporal cannot be used."""

import asyncio
import logging
import re
from pathlib import Path

import pytest
from temporalio.runtime import Runtime

import worker
from tests.support.ports import FreePort
from tests.support.postgres import Postgres
from tests.support.web_settings import web_settings


async def first_warning(database_url: str, caplog: pytest.LogCaptureFixture) -> str:
    settings = web_settings("https://accounts.example", database_url=database_url)
    stop = asyncio.Event()
    with caplog.at_level(logging.WARNING, worker.log.name):
        waiting = asyncio.create_task(worker.wait_for_services(settings, stop, Runtime.default()))
        async with asyncio.timeout(40):
            while not (found := [each for each in caplog.records if each.name == worker.log.name]):
                await asyncio.sleep(0.01)
    stop.set()
    assert await waiting is None
    return found[0].getMessage()


@pytest.mark.parametrize(
    ("path", "cause"),
    [
        ("missing/x.db", "OperationalError SQLITE_CANTOPEN: unable to open database file"),
        ("text.txt", "DatabaseError SQLITE_NOTADB"),
    ],
)
async def test_file_that_cannot_be_used(
    path: str, cause: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.txt").write_text("This is no database. " * 100)
    assert await first_warning(f"sqlite+aiosqlite:///{tmp_path}/{path}", caplog) == (
        f"The database does not respond. Cause: {cause}. Trying again every 2 s."
    )


async def test_database_that_does_not_exist(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    missing = postgres.new_database().rpartition("/")[0] + "/missing"
    assert "Cause: InvalidCatalogNameError 3D000. Try" in await first_warning(missing, caplog)


async def test_temporal_that_cannot_be_reached(
    free_port: FreePort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{free_port()}")
    warning = await first_warning(f"sqlite+aiosqlite:///{tmp_path}/x.db", caplog)
    expected = r"Temporal .* Cause: RuntimeError: .*Connection refused.*\. Trying again every 2 s\."
    assert re.fullmatch(expected, warning)
