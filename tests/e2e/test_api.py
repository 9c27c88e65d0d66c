"""The API on real parts: worker and web as processes, Temporal, a token of a real issuer."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from smart_accounts.store.database import migrate

REQUESTS = "/api/v1/requests"
NO_WORKER_ASKED = 4  # seconds on a busy machine; who asks a worker waits for five
LISTED = 'curl -sS "$api" -H "Authorization: Bearer $TOKEN" | grep -q pending'
DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture
async def called(service: Any, issuer: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the running service with Pat's token. No worker runs yet."""
    service.settings |= {
        f"SMART_ACCOUNTS_{name.upper()}": value for name, value in issuer.settings.items()
    }
    await migrate(service.database_url)  # as a worker would
    address = await service.web()
    async with httpx.AsyncClient(base_url=address, headers=issuer.headers(), timeout=30) as http:
        yield http


async def make(http: httpx.AsyncClient, body: dict[str, Any], key: str) -> httpx.Response:
    """Again where a busy machine answers 503: it says so, and with one key it is one request."""
    async with asyncio.timeout(40):
        while True:
            answer = await http.post(REQUESTS, json=body, headers={"Idempotency-Key": key})
            if answer.status_code != 503:
                return answer
            await asyncio.sleep(0.2)


async def until(http: httpx.AsyncClient, where: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(40):
        while True:
            shown: dict[str, Any] = (await http.get(where)).json()
            if shown["status"] == status:
                return shown
            await asyncio.sleep(0.05)


async def test_a_request_from_its_start_to_its_end_and_the_next_one(
    service: Any, called: httpx.AsyncClient, fresh: dict[str, Any], issuer: Any
) -> None:
    del fresh["requester"]
    await called.get(REQUESTS)  # the issuer's keys
    key = {"Idempotency-Key": "one"}
    began = time.monotonic()
    made = await called.post(REQUESTS, json=fresh, headers=key)
    assert time.monotonic() - began < NO_WORKER_ASKED
    where, shown = made.headers["location"], made.json()
    one = where.partition("?")[0]
    assert (made.status_code, shown["status"]) == (201, "requested")

    # Before a worker has seen it.
    for path in (where, one):
        seen = (await called.get(path)).json()
        assert (seen["request_id"], seen["status"]) == (shown["request_id"], "requested")
    exact = (await called.post(REQUESTS, json=fresh, headers=key)).json()
    assert exact == seen
    kim = issuer.headers(email="kim@reseller.example")
    assert (await called.get(one, headers=kim)).status_code == 404
    began = time.monotonic()
    assert (await called.post(REQUESTS, json=fresh)).status_code == 409
    assert time.monotonic() - began < NO_WORKER_ASKED

    await service.worker()
    pending = await until(called, one, "pending")
    assert pending["deadline"] == seen["deadline"]  # to the microsecond
    await service.mail.wait_for("activation", fresh["customer_email"])
    listed = (await called.get(REQUESTS)).json()
    assert [each["request_id"] for each in listed["items"]] == [shown["request_id"]]

    soon = await called.post(f"{one}/resend")
    assert soon.status_code == 409
    new = {"customer_email": "cy@" + fresh["account_domain"]}
    bad = await called.post(
        f"{one}/replace-approver", json={"customer_email": "pat@partner.example"}
    )
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "customer_email")
    assert (await called.post(f"{one}/replace-approver", json=new)).status_code == 200
    assert (await called.get(one)).json()["customer_email"] == new["customer_email"]
    same = await called.post(REQUESTS, json=fresh, headers=key)
    assert same.json()["request_id"] == shown["request_id"]

    taken = await called.post(f"{one}/withdraw", json={"reason": "Not needed."})
    assert taken.status_code == 200
    ended = await until(called, one, "withdrawn")
    assert (ended["decided_by"], ended["reason"]) == ("requester", "Not needed.")
    async with asyncio.timeout(40):  # its closing emails go out first
        while (again := await called.post(REQUESTS, json=fresh)).status_code == 409:
            assert "closing" in again.json()["detail"] or "under way" in again.json()["detail"]
            await asyncio.sleep(0.1)
    newest = (await called.get(one)).json()
    assert newest["request_id"] == again.json()["request_id"] != shown["request_id"]
    assert (await called.get(where)).json()["status"] == "withdrawn"


@pytest.mark.parametrize("with_worker", [False, True])
async def test_ten_calls_at_once_with_one_key_make_one_request(
    service: Any, called: httpx.AsyncClient, fresh: dict[str, Any], with_worker: bool
) -> None:
    del fresh["requester"]
    if with_worker:
        await service.worker()
    answers = await asyncio.gather(*(make(called, fresh, "ten") for _ in range(10)))
    assert {each.status_code for each in answers} == {201}
    assert len({each.json()["request_id"] for each in answers}) == 1
    found = [each async for each in service.requests().list() if each.status == "pending"]
    domain = fresh["account_domain"]
    assert len([each for each in found if each.account_domain == domain]) <= 1


async def test_foreign_start_is_seen_by_its_requester_alone(
    service: Any, called: httpx.AsyncClient, fresh: dict[str, Any], issuer: Any
) -> None:
    started = await service.start(fresh)
    path = f"{REQUESTS}/{started.workflow_id}"
    assert (await called.get(path)).json()["status"] == "requested"
    kim = issuer.headers(email="kim@reseller.example")
    assert (await called.get(path, headers=kim)).status_code == 404
    await service.handle(started).terminate()
    assert (await called.get(path)).status_code == 404  # it never became a request


async def test_start_that_breaks_a_rule_is_no_request(
    service: Any, called: httpx.AsyncClient
) -> None:
    bad = "smart-account-bad.example"
    wrong: list[list[Any]] = [[], [None], [{"account_name": "x"}], [{}, {}]]
    for given in wrong:
        handle = await service.client.start_workflow(
            "SmartAccountRequestWorkflow", args=given, id=bad, task_queue="smart-account-requests"
        )
        assert (await called.get(f"{REQUESTS}/{bad}")).status_code == 404
        await handle.terminate()


async def test_the_document_s_block(service: Any, called: httpx.AsyncClient, issuer: Any) -> None:
    found = re.search(r"<!-- tested: api -->\n```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    script = found.group(1).replace("http://127.0.0.1:8000", str(called.base_url).rstrip("/"))
    await service.worker()
    # A person pauses between the lines, and the worker stores the request.
    listing = 'curl -sS "$api?'
    script = script.replace(listing, f"until {LISTED}; do sleep 0.2; done; {listing}")
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            ["bash", "-euc", script.replace("curl -sS", "curl -sS -w '\\n'")],
            env={"PATH": os.environ["PATH"], "TOKEN": issuer.token()},
            capture_output=True,
            text=True,
            check=True,
        )
    )
    made, listed, shown, withdrawn = map(json.loads, done.stdout.splitlines())
    assert (made["status"], shown["status"]) == ("requested", "pending")
    assert listed["items"][0]["request_id"] == made["request_id"] == withdrawn["request_id"]
    assert withdrawn["status"] == "withdrawn"


async def test_every_operation_is_as_it_is_described(
    service: Any, called: httpx.AsyncClient, fresh: dict[str, Any], issuer: Any, tmp_path: Path
) -> None:
    await service.worker()
    started = await service.start(fresh)
    config = tmp_path / "schemathesis.toml"
    config.write_text(SCHEMATHESIS.format(started.workflow_id))
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), f"--config-file={config}", "run"),
                *(f"{called.base_url}/openapi.json", "--header"),
                f"Authorization: {issuer.headers()['Authorization']}",
                *("--checks=all", "--max-examples=15", "--continue-on-failure", "--seed=1"),
                *("--generation-database=none", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 selected / 6 total" in done.stdout
    assert "Traceback" not in service.log


SCHEMATHESIS = """
[parameters]
"path.workflow_id" = "{}"
[checks.positive_data_acceptance]
# No schema can say all rules: public suffixes, web addresses in names, the caller's own address.
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429"]
"""
