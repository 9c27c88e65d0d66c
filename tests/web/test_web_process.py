"""How ``python -m smart_accounts.web`` starts, logs and ends."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.keys import KEY
from tests.support.ports import FreePort
from tests.support.site import Site

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "smart_accounts.web"]


def environment(database_url: str, port: int, temporal_port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TEMPORAL_ADDRESS": f"127.0.0.1:{temporal_port}",
        "SMART_ACCOUNTS_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SMART_ACCOUNTS_SECRET_KEYS": KEY,
        "SMART_ACCOUNTS_DATABASE_URL": database_url,
        "SMART_ACCOUNTS_SMTP_HOSTNAME": "127.0.0.1",
        "SMART_ACCOUNTS_MAIL_FROM": "accounts@service.example",
        "SMART_ACCOUNTS_WEB_PORT": str(port),
    }


async def wait_for_server(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(40):
        while True:
            try:
                await http.get("/healthz")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_server_without_temporal_logs_no_token_and_stops_cleanly(
    site: Site,
    web_database_url: str,
    free_port: FreePort,
    tmp_path: Path,
    signum: signal.Signals,
) -> None:
    port, log, security_log = free_port(), tmp_path / "log.txt", tmp_path / "security.jsonl"
    token = await site.add_request()
    with log.open("wb") as stderr, security_log.open("wb") as stdout:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            cwd=tmp_path,
            env=environment(web_database_url, port, free_port()),
            stdout=stdout,
            stderr=stderr,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            await wait_for_server(http)
            assert (await http.get(f"/activate/{token}")).status_code == 200
            assert (await http.post(f"/activate/{token}?x={token}")).status_code == 422
            large = await http.post(f"/activate/{token}/decline", content=b"x" * 1_000_000)
            assert large.status_code == 413
            outage = await http.post(f"/activate/{token}", data={"agree": "yes"})
            assert (outage.status_code, "Nothing was lost" in outage.text) == (503, True)
            assert (await http.get("/healthz", headers={"X": "x" * 21_000})).status_code == 400
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.json()["temporal"]) == (503, "down")
            assert ready.json()["database"] == "ok"
            process.send_signal(signum)
            assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert token not in log.read_text()
    assert "Traceback" not in log.read_text()
    assert re.search("responded 503: .* Cause: [A-Z]", log.read_text())
    assert "request.accepted" not in log.read_text()
    assert token not in security_log.read_text()
    events = [json.loads(line) for line in security_log.read_text().splitlines()]
    assert [(each["event"], each["outcome"]) for each in events] == [
        ("request.accepted", "unknown")
    ]


async def test_invalid_settings_are_reported_in_one_line(tmp_path: Path) -> None:
    settings = environment("sqlite://", 8000, 7233) | {"SMART_ACCOUNTS_WEB_PORT": "none"}
    ended = await asyncio.to_thread(
        subprocess.run, COMMAND, cwd=tmp_path, env=settings, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert "SMART_ACCOUNTS_DATABASE_URL" in ended.stderr
    assert "SMART_ACCOUNTS_WEB_PORT" in ended.stderr


async def test_taken_port_is_an_error_without_a_traceback(
    site: Site, web_database_url: str, free_port: FreePort, tmp_path: Path
) -> None:
    port = site.listener.getsockname()[1]
    settings = environment(web_database_url, port, free_port())
    ended = await asyncio.to_thread(
        subprocess.run, COMMAND, cwd=tmp_path, env=settings, capture_output=True, text=True
    )
    assert ended.returncode not in (0, 2)
    assert "address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr
