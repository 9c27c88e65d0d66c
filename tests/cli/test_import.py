"""Importing a CSV file with a real Temporal server and worker."""

import asyncio
import os
import re
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import workflow_id
from smart_accounts.errors import NotFound
from smart_accounts.temporal.errors import RPC_TIMEOUT
from smart_accounts.temporal.records import Listed
from tests.cli.conftest import Finished, Starter, StartTemporal, StartWorker


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "requests.csv"


def write(file: Path, emails: Iterable[str]) -> None:
    rows = [f"Acme,{email},pat@partner.example,Pat Lee,Partner Ltd" for email in emails]
    header = "account_name,customer_email,requester_email,requester_name,requester_company"
    file.write_text("\n".join([header, *rows]) + "\n")


def results(finished: Finished) -> list[tuple[int, str]]:
    return [(row["row"], row["result"]) for row in finished.json["rows"]]


async def test_importing_twice_starts_each_request_once(starter: Starter, file: Path) -> None:
    write(file, [f"ada@twice{number}.example" for number in range(20)])
    first = await starter("import", file, "--json")
    assert (first.code, first.err) == (0, "")
    assert results(first) == [(row, "started") for row in range(2, 22)]
    assert len({row["request_id"] for row in first.json["rows"]}) == 20

    second = await starter("import", file, "--json")
    assert (second.code, second.err) == (0, "")
    assert results(second) == [(row, "already-open") for row in range(2, 22)]
    assert second.json["counts"]["already-open"] == 20


async def test_every_row_is_tried_and_reported(starter: Starter, file: Path) -> None:
    write(file, ["ada@owner.example"])
    assert (await starter("import", file)).code == 0
    assert (await starter("accept", "owner.example")).code == 0
    await starter.wait_until_closed("owner.example")

    write(file, ["ada@owner.example", "ada@fresh.example"])
    rejected = await starter("import", file, "--json")
    assert (rejected.code, results(rejected)) == (1, [(2, "rejected"), (3, "started")])
    assert rejected.json["rows"][0]["message"]
    await starter.wait_until_closed("owner.example")  # until then, its last emails are the reason

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
    await starter.wait_until_closed("owner.example")

    shown = await starter("import", file)
    assert (shown.code, shown.err) == (2, "")
    assert shown.out.splitlines()[-1] == "5 rows: 2 already open, 1 rejected, 2 bad input."
    assert max(map(len, shown.out.splitlines())) <= 80


async def test_import_stops_at_a_limit(starter: Starter, file: Path) -> None:
    domains = [f"part{number}.limited.example" for number in range(12)]
    rows = [f"Acme,ada@limited.example,{domain},pat@limit.example,Pat,Ltd" for domain in domains]
    header = "account_name,customer_email,account_domain,requester_email"
    file.write_text("\n".join([f"{header},requester_name,requester_company", "Acme,", *rows]))
    client = await starter.client()
    for first in ("started", "already-open"):
        stopped = await starter("import", file, "--json")
        assert (stopped.code, stopped.err) == (1, "")
        assert [result for _, result in results(stopped)] == [
            "bad-input",
            *[first] * 5,
            "rejected",
            *["unfinished"] * 6,
        ]
        assert stopped.json["error"]["kind"] == "refused"
        assert "open requests for this customer" in stopped.json["error"]["message"]
        status = await client.status(workflow_id(domains[5]))
        assert (status.status, status.emails) == (Status.REJECTED, ())
        assert stopped.json["retry_at"] == status.model_dump(mode="json")["retry_at"]
        for domain in domains[6:]:
            with pytest.raises(NotFound):
                await client.status(workflow_id(domain))

    shown = await starter("import", file)
    assert (shown.code, shown.err) == (1, "")
    totals = "13 rows: 5 already open, 1 rejected, 1 bad input, 6 unfinished."
    assert shown.out.splitlines()[-3] == totals
    assert shown.out.splitlines()[-2] == "Stopped at row 8, because a limit is reached."
    assert re.fullmatch(
        r"Run the command again after 20\d\d-[\d: -]{11} UTC to continue."
        " Open requests are not started twice.",
        shown.out.splitlines()[-1],
    )


async def test_server_that_goes_down_during_an_import(
    start_temporal: StartTemporal, start_worker: StartWorker, file: Path
) -> None:
    write(file, [f"ada@gone{number}.example" for number in range(40)])
    async with start_temporal() as (_, starter):
        starter.rpc_timeout = RPC_TIMEOUT  # of each start after the server has gone
        run = asyncio.create_task(starter("import", file))
        client = await starter.client()
        listed: list[Listed] = []
        # No worker runs, so each start waits 5 s for a result.
        async with asyncio.timeout(40):
            while len(listed) < 8 or run.done():
                if run.done():  # a busy server does not respond to each call within two seconds
                    assert run.result().code == 3
                    run = asyncio.create_task(starter("import", file))
                await asyncio.sleep(0.1)
                listed = [each async for each in client.list()]
        asked = [each.requested_at for each in listed[-8:]]
        # Eight at a time: the first may respond after 3 s. One after the other, they take 35 s.
        assert max(asked) - min(asked) < timedelta(seconds=15)
    stopped = time.monotonic()
    finished = await run
    assert time.monotonic() - stopped < 30  # 13 s; trying all the other rows would take 36 s
    assert finished.code == 3
    assert "unfinished" in finished.out
    assert finished.out.splitlines()[-1] == (
        "Run the command again to continue. Open requests are not started twice."
    )

    write(file, [f"ada@gone{number}.example" for number in range(16)])
    async with start_temporal() as (address, starter), start_worker(address):
        finished = await starter("import", file, "--json")
        while finished.code == 3:  # as above
            finished = await starter("import", file, "--json")
        assert finished.code == 0
        counts = finished.json["counts"]
        assert counts["already-open"] >= 8
        assert counts["already-open"] + counts["started"] == 16
        client = await starter.client()
        async with asyncio.timeout(40):  # the list is a little behind
            while len([each async for each in client.list()]) < 16:
                await asyncio.sleep(0.1)


async def test_progress_bar_only_on_a_terminal(starter: Starter, file: Path) -> None:
    write(file, ["ada@progress.example"])
    for flags, shown in [((), True), (("--json",), False)]:
        terminal, end = os.openpty()
        finished = await starter.run_in_new_interpreter(
            "import", file, *flags, stderr=end, TERM="xterm"
        )
        os.close(end)
        assert finished.code == 0
        os.set_blocking(terminal, False)
        try:
            progress = os.read(terminal, 10_000)
        except OSError:
            progress = b""  # closed and empty
        os.close(terminal)
        assert (b"Starting" in progress) is shown
