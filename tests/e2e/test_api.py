"""The API of the running service, with tokens of a real issuer."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.store.migrate import migrate
from tests.support.api import REQUESTS, create_request
from tests.support.issuer import Issuer
from tests.support.service import Service

NO_QUERY_SECONDS = 4  # less than the 5 s that a query waits for a worker
LISTED = 'curl -sS "$api" -H "Authorization: Bearer $TOKEN" | grep -q pending'
DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture
async def api(service: Service, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client with Pat's token for the running web application. No worker runs yet."""
    service.settings |= {
        f"SMART_ACCOUNTS_{name.upper()}": value for name, value in issuer.settings.items()
    }
    await migrate(service.database_url)  # which otherwise a worker does
    address = await service.start_web()
    async with httpx.AsyncClient(base_url=address, headers=issuer.headers(), timeout=30) as http:
        yield http


async def wait_for_status(http: httpx.AsyncClient, path: str, status: str) -> dict[str, Any]:
    async with asyncio.timeout(40):
        while True:
            shown: dict[str, Any] = (await http.get(path)).json()
            if shown["status"] == status:
                return shown
            await asyncio.sleep(0.05)


async def test_request_until_withdrawn_and_the_next_one(
    service: Service, api: httpx.AsyncClient, new_request: dict[str, Any], issuer: Issuer
) -> None:
    del new_request["requester"]
    await api.get(REQUESTS)  # loads the issuer's keys
    created = await create_request(api, new_request, "one")
    assert created.elapsed.total_seconds() < NO_QUERY_SECONDS
    location, shown = created.headers["location"], created.json()
    path = location.partition("?")[0]
    assert (created.status_code, shown["status"]) == (201, "requested")

    # No worker has seen the request yet.
    for each in (location, path):
        seen = (await api.get(each)).json()
        assert (seen["request_id"], seen["status"]) == (shown["request_id"], "requested")
    repeated = await create_request(api, new_request, "one")
    assert repeated.json() == seen
    kim = issuer.headers(sub="kim", email="kim@reseller.example")
    assert (await api.get(path, headers=kim)).status_code == 404
    taken = await create_request(api, new_request)
    assert taken.status_code == 409
    assert taken.elapsed.total_seconds() < NO_QUERY_SECONDS

    await service.start_worker()
    pending = await wait_for_status(api, path, "pending")
    assert pending["deadline"] == seen["deadline"]  # to the microsecond
    await service.mail.wait_for("activation", new_request["customer_email"])
    listed = (await api.get(REQUESTS)).json()
    assert [each["request_id"] for each in listed["items"]] == [shown["request_id"]]

    too_early = await api.post(f"{path}/resend")
    assert too_early.status_code == 409
    new = {"customer_email": "cy@" + new_request["account_domain"]}
    bad = await api.post(f"{path}/replace-approver", json={"customer_email": "pat@partner.example"})
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "customer_email")
    for _ in range(2):
        assert (await api.post(f"{path}/replace-approver", json=new)).status_code == 200
    assert (await api.get(path)).json()["customer_email"] == new["customer_email"]
    same = await create_request(api, new_request, "one")
    assert same.json()["request_id"] == shown["request_id"]

    withdrawn = await api.post(f"{path}/withdraw", json={"reason": "Not needed."})
    assert withdrawn.status_code == 200
    assert (await api.post(f"{path}/withdraw", json={"reason": "Again."})).status_code == 200
    ended = await wait_for_status(api, path, "withdrawn")
    assert (ended["decided_by"], ended["reason"]) == ("requester", "Not needed.")
    async with asyncio.timeout(40):  # until the closing emails are sent
        while (again := await create_request(api, new_request, "two")).status_code == 409:
            detail = again.json()["detail"]
            assert "emails are still being sent" in detail or "under way" in detail
            await asyncio.sleep(0.1)
    newest = (await api.get(path)).json()
    assert newest["request_id"] == again.json()["request_id"] != shown["request_id"]
    assert (await api.get(location)).json()["status"] == "withdrawn"


@pytest.mark.parametrize("with_worker", [False, True])
async def test_ten_calls_with_one_key_create_one_request(
    service: Service, api: httpx.AsyncClient, new_request: dict[str, Any], with_worker: bool
) -> None:
    del new_request["requester"]
    if with_worker:
        await service.start_worker()
    responses = await asyncio.gather(*(create_request(api, new_request, "ten") for _ in range(10)))
    assert {each.status_code for each in responses} == {201}
    assert len({each.json()["request_id"] for each in responses}) == 1
    found = [each async for each in service.requests().list() if each.status == "pending"]
    domain = new_request["account_domain"]
    assert len([each for each in found if each.account_domain == domain]) <= 1


async def test_request_of_another_client_is_visible_only_to_its_requester(
    service: Service, api: httpx.AsyncClient, new_request: dict[str, Any], issuer: Issuer
) -> None:
    started = await service.start(new_request)
    path = f"{REQUESTS}/{started.workflow_id}"
    # Until a worker has stored it, it belongs to nobody.
    operator = issuer.headers(sub="opal", roles=["smart-accounts-operator"])
    assert (await api.get(path, headers=operator)).json()["status"] == "requested"
    assert (await api.get(path)).status_code == 404
    await service.start_worker()
    await service.wait_for(started, Status.PENDING)
    assert (await api.get(path)).json()["status"] == "pending"
    kim = issuer.headers(sub="kim", email="kim@reseller.example")
    other = issuer.headers(sub="mallory")  # another person with the address
    for stranger in (kim, other):
        assert (await api.get(path, headers=stranger)).status_code == 404


async def test_terminated_request_is_not_found(
    service: Service, api: httpx.AsyncClient, new_request: dict[str, Any]
) -> None:
    del new_request["requester"]
    created = await create_request(api, new_request, "terminated")
    path = created.headers["location"]
    assert (await api.get(path)).status_code == 200
    workflow_id = created.json()["workflow_id"]
    await service.temporal.get_workflow_handle(workflow_id).terminate()
    assert (await api.get(path)).status_code == 404  # no worker has stored it


async def test_invalid_start_is_not_a_request(service: Service, api: httpx.AsyncClient) -> None:
    bad = "smart-account-bad.example"
    invalid: list[list[Any]] = [[], [None], [{"account_name": "x"}], [{}, {}]]
    for args in invalid:
        handle = await service.temporal.start_workflow(
            "SmartAccountRequestWorkflow", args=args, id=bad, task_queue="smart-account-requests"
        )
        assert (await api.get(f"{REQUESTS}/{bad}")).status_code == 404
        await handle.terminate()


async def test_code_block_of_the_documentation(
    service: Service, api: httpx.AsyncClient, issuer: Issuer
) -> None:
    found = re.search(r"<!-- tested: api -->\n```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found
    script = found.group(1).replace("http://127.0.0.1:8000", str(api.base_url).rstrip("/"))
    await service.start_worker()
    # A person types more slowly than a script, so that the worker has stored the request.
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
    created, listed, shown, withdrawn = map(json.loads, done.stdout.splitlines())
    assert (created["status"], shown["status"]) == ("requested", "pending")
    assert listed["items"][0]["request_id"] == created["request_id"] == withdrawn["request_id"]
    assert withdrawn["status"] == "withdrawn"


@pytest.mark.full  # test_generated_client.py and tests/web/api/test_description.py are shorter
async def test_operations_match_the_api_description(
    service: Service,
    api: httpx.AsyncClient,
    new_request: dict[str, Any],
    issuer: Issuer,
    tmp_path: Path,
) -> None:
    await service.start_worker()
    started = await service.start(new_request)
    config = tmp_path / "schemathesis.toml"
    config.write_text(SCHEMATHESIS.format(started.workflow_id))
    (tmp_path / "hooks.py").write_text(HOOKS)
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                f"--config-file={config}",
                "run",
                f"{api.base_url}/openapi.json",
                "--header",
                f"Authorization: {issuer.headers()['Authorization']}",
                "--checks=all",
                "--max-examples=5",
                "--continue-on-failure",
                "--seed=1",
                "--generation-database=none",
                "--no-color",
            ],
            cwd=tmp_path,
            env=os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "18 selected / 18 total" in done.stdout
    assert "Traceback" not in service.log


HOOKS = """
import random
import schemathesis

def from_another_address(request):
    request.headers["X-Forwarded-For"] = ".".join(str(random.randrange(1, 255)) for _ in range(4))
    return request

@schemathesis.hook
def before_call(context, case, kwargs):
    # One client may not call the API so often. A header of the case would change what is checked.
    kwargs["auth"] = from_another_address
"""
SCHEMATHESIS = """
[parameters]
"path.workflow_id" = "{}"
[checks.positive_data_acceptance]
# A schema cannot express every rule, such as public suffixes or web addresses in names.
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429"]
"""
