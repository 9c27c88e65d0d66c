"""What operators see of the processes that production runs: metrics, logs and health checks."""

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import TASK_QUEUE
from tests.support.ports import FreePort
from tests.support.programs import stop_process
from tests.support.service import Service
from tests.support.store import Query

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "smart-accounts.json"


def used_metrics() -> set[str]:
    """Return the names of all metrics in the alerts and on the dashboard."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [rule["expr"] for group in groups for rule in group["rules"]]
    queries += [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return set(re.findall(r"\b(?:smart_accounts|temporal)_\w+", " ".join(queries)))


async def test_metrics_and_logs_of_a_life_with_faults(
    service: Service, new_request: dict[str, Any], free_port: FreePort, query_service: Query
) -> None:
    worker, web = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    service.settings |= {
        "SMART_ACCOUNTS_METRICS_ADDRESS": worker,
        "SMART_ACCOUNTS_WEB_METRICS_ADDRESS": web,
        "SMART_ACCOUNTS_LOG_FORMAT": "json",
    }
    await service.start_worker()
    await service.start_web()
    async with httpx.AsyncClient() as http:
        counters_at_start = counters_in(await scrape(http, worker, web))
    customer, requester = new_request["customer_email"], new_request["requester"]["email"]
    refused = {to: f"451 4.7.1 <{to}> is greylisted" for to in (customer, requester)}
    service.mail.refusals = refused
    started = await service.start(new_request)
    async with asyncio.timeout(40):
        while min(service.mail.attempts[to] for to in refused) < 2:  # the second one is retried
            await asyncio.sleep(0.02)
    service.mail.refusals = {}
    await service.wait_for(started, Status.PENDING, sent=2)
    # The next step fails as it would after a fault in a release.
    await query_service("ALTER TABLE audit_events RENAME TO hidden")
    await service.requests().accept(started.workflow_id, accepted_by=customer)
    async with httpx.AsyncClient() as http, asyncio.timeout(40):
        while "temporal_local_activity_execution_failed_total" not in await scrape(http, worker):
            await asyncio.sleep(0.05)
        await query_service("ALTER TABLE hidden RENAME TO audit_events")
        await service.wait_for(started, Status.ACTIVE, sent=5)
        # Its workflow tasks fail, as those of a request do after a bad release.
        await service.temporal.start_workflow("Unknown", id="unknown", task_queue=TASK_QUEUE)
        while "temporal_workflow_task_execution_failed_total" not in await scrape(http, worker):
            await asyncio.sleep(0.05)
        while "Failing workflow task" not in service.log:  # the SDK keeps its lines for a moment
            await asyncio.sleep(0.05)
        metrics = await scrape(http, worker, web)

    assert used_metrics() - set(re.findall(r"^(\w+)", metrics, re.MULTILINE)) == set()
    assert "@" not in metrics
    # Prometheus would miss the first event of a counter that did not begin at 0.
    assert counters_in(metrics).keys() == counters_at_start.keys()
    assert set(counters_at_start.values()) == {0}
    assert sum(v for k, v in counters_in(metrics).items() if 'outcome="sent"' in k) == 5
    assert sum(v for k, v in counters_in(metrics).items() if 'outcome="delayed"' in k) >= 4
    check_log(service, started.request_id)


async def scrape(http: httpx.AsyncClient, *addresses: str) -> str:
    return "".join([(await http.get(f"http://{each}/metrics")).text for each in addresses])


def counters_in(metrics: str) -> dict[str, float]:
    """Return our counters, each with its labels and its value."""
    found = re.findall(r"^(smart_accounts_\w+_total\{.*\}) (\S+)$", metrics, re.MULTILINE)
    return {series: float(value) for series, value in found}


def check_log(service: Service, request_id: str) -> None:
    lines = [json.loads(line) for line in service.log.splitlines()]
    assert "@" not in service.log
    assert "greylisted" not in service.log
    failures = [each for each in lines if each.get("message") == "Completing activity as failed"]
    types = {each["activity_type"] for each in failures}
    assert types == {"send_emails", "activate_account"}
    for line in failures:
        assert line["request_id"] == line["run_id"] == request_id
        assert line["workflow_id"].startswith("smart-account-")
        assert line["exception"]
    sdk = [each["message"] for each in lines if each.get("logger") == "temporalio.core"]
    assert "Failing workflow task" in sdk, "without the failure, which may quote anything"


async def test_health_of_a_worker(service: Service, free_port: FreePort) -> None:
    async def state(address: str, path: str) -> tuple[int, Any]:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=30) as http:
            response = await http.get(path)
            return response.status_code, response.json()

    healthy = f"127.0.0.1:{free_port()}"
    worker = await service.start_worker(SMART_ACCOUNTS_HEALTH_ADDRESS=healthy)
    ready = {"status": "ok", "temporal": "ok", "database": "ok", "worker": "ok"}
    assert await state(healthy, "/readyz") == (200, ready)

    waiting, nowhere = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    other = service.launch(
        "worker.py", SMART_ACCOUNTS_HEALTH_ADDRESS=waiting, TEMPORAL_ADDRESS=nowhere
    )
    async with asyncio.timeout(40):
        while True:
            with suppress(httpx.TransportError):
                assert (await state(waiting, "/healthz"))[0] == 200
                break
            await asyncio.sleep(0.05)
    assert await state(waiting, "/readyz") == (503, {"status": "unavailable", "worker": "down"})

    third = service.launch("worker.py", SMART_ACCOUNTS_HEALTH_ADDRESS=healthy)
    assert await asyncio.to_thread(third.wait, 60) == 2
    named = "^bad settings: SMART_ACCOUNTS_HEALTH_ADDRESS: .*in use.*$"
    assert re.search(named, service.log, re.MULTILINE)
    assert [await stop_process(each) for each in (worker, other)] == [0, 0]
