"""Importing a CSV file beside a real server and worker."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from smart_accounts.temporal.client import Listed
from tests.cli.conftest import Starter

TemporalIn = Callable[[], AbstractAsyncContextManager[tuple[str, Starter]]]
WorkerAt = Callable[[str], AbstractAsyncContextManager[None]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "requests.csv"


def write(file: Path, emails: Iterable[str]) -> None:
    rows = [f"Acme,{email},pat@partner.example,Pat Lee,Partner Ltd" for email in emails]
    header = "account_name,customer_email,requester_email,requester_name,requester_company"
    file.write_text("\n".join([header, *rows]) + "\n")


def results(ended: Any) -> list[tuple[int, str]]:
    return [(row["row"], row["result"]) for row in ended.json["rows"]]


async def test_running_it_twice_starts_nothing_twice(starter: Starter, file: Path) -> None:
    write(file, [f"ada@twice{number}.example" for number in range(20)])
    first = await starter("import", file, "--json")
    assert (first.code, first.err) == (0, "")
    assert results(first) == [(row, "started") for row in range(2, 22)]
    assert len({row["request_id"] for row in first.json["rows"]}) == 20

    second = await starter("import", file, "--json")
    assert (second.code, second.err) == (0, "")
    assert results(second) == [(row, "already-open") for row in range(2, 22)]
    assert second.json["counts"]["already-open"] == 20


async def test_every_row_is_tried_and_told(starter: Starter, file: Path) -> None:
    write(file, ["ada@owner.example"])
    assert (await starter("import", file)).code == 0
    assert (await starter("accept", "owner.example")).code == 0
    await starter.is_closed("owner.example")

    write(file, ["ada@owner.example", "ada@fresh.example"])
    rejected = await starter("import", file, "--json")
    assert (rejected.code, results(rejected)) == (1, [(2, "rejected"), (3, "started")])
    assert rejected.json["rows"][0]["message"]
    await starter.is_closed("owner.example")  # until then it counts as already open

    write(file, ["ada", "ada@gmail.com", "ada@owner.example", "ada@fresh.example", "a@new.example"])
    bad = await starter("import", file, "--json")
    assert bad.code == 2
    assert results(bad) == [
        (2, "bad-input"),
        (3, "bad-input"),
        (4, "rejected"),
        (5, "already-open"),
        (6, "started"),
    ]
    assert bad.json["rows"][0]["fields"] == [
        {
            "field": "customer_email",
            "message": "must be one email address, without a display name",
        }
    ]
    await starter.is_closed("owner.example")

    shown = await starter("import", file)
    assert (shown.code, shown.err) == (2, "")
    assert shown.out.splitlines()[-1] == "5 rows: 2 already open, 1 rejected, 2 bad input."
    assert max(map(len, shown.out.splitlines())) <= 80


async def test_a_server_that_goes_away_in_between(
    temporal_in: TemporalIn, worker_at: WorkerAt, file: Path
) -> None:
    write(file, [f"ada@gone{number}.example" for number in range(40)])
    async with temporal_in() as (_, starter):
        run = asyncio.create_task(starter("import", file))
        client = await starter.requests()
        listed: list[Listed] = []
        # No worker answers, so each start is followed by 5 s of waiting for one.
        while len(listed) < 8:
            await asyncio.sleep(0.1)
            listed = [each async for each in client.list()]
        asked = [each.requested_at for each in listed[-8:]]
        assert max(asked) - min(asked) < timedelta(seconds=5)  # eight at a time
    stopped = time.monotonic()
    ended = await run
    assert time.monotonic() - stopped < 30  # 13 s; trying the rest in vain takes 36 s
    assert ended.code == 3
    assert "unfinished" in ended.out
    assert ended.out.splitlines()[-1] == "Run it again to go on; open requests are left alone."

    async with temporal_in() as (address, starter), worker_at(address):
        first = ended = await starter("import", file, "--json")
        while ended.code == 3:  # a busy server does not answer each call within two seconds
            ended = await starter("import", file, "--json")
        assert ended.code == 0
        assert first.json["counts"]["already-open"] >= 8
        assert first.json["counts"]["started"] > 0
        counts = ended.json["counts"]
        assert counts["already-open"] + counts["started"] == 40


async def test_progress_on_a_terminal_only(starter: Starter, file: Path) -> None:
    write(file, ["ada@progress.example"])
    for flags, shown in [((), True), (("--json",), False)]:
        terminal, end = os.openpty()
        ended = await starter.in_a_process_of_its_own(
            "import", file, *flags, stderr=end, TERM="xterm"
        )
        os.close(end)
        assert ended.code == 0
        os.set_blocking(terminal, False)
        try:
            progress = os.read(terminal, 10_000)
        except OSError:
            progress = b""  # closed and empty
        os.close(terminal)
        assert (b"Starting" in progress) is shown
