"""Clients without any code of this project: TypeScript, and Temporal's HTTP API with curl."""

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx

from smart_accounts.contract.messages import Status
from tests.support.documents import code_block
from tests.support.npm import find_program, link_packages
from tests.support.service import Service

PACKAGES = Path(__file__).parent / "typescript"
HTTP_API = "127.0.0.1:7243"


async def run(service: Service, folder: Path, *command: str) -> str:
    environment = {"PATH": os.environ["PATH"], "TEMPORAL_ADDRESS": service.server.address}
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            command, env=environment, cwd=folder, text=True, capture_output=True, check=False
        )
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_examples(service: Service, new_request: dict[str, Any], tmp_path: Path) -> None:
    await service.start_worker()
    (tmp_path / "request.mjs").write_text(code_block("docs/messages.md", "typescript"))
    link_packages(PACKAGES, tmp_path)
    printed = (await run(service, tmp_path, find_program("node"), "request.mjs")).splitlines()
    assert printed[0] == "Cumulus has an open request."
    assert re.fullmatch(r"pending \d{4}-\d\d-\d\dT\S+Z", printed[1])
    assert printed[2].startswith("An activation email to the new approver is on its way.")
    assert printed[3].startswith("ActionRefused An activation email has just been sent;")
    assert printed[4:] == [
        "active",
        "InvalidRequest account_name must not contain < or >",
        "InvalidRequest customer_email is required",
    ]
    await service.mail.wait_for("welcome", "cy@cumulus.example")

    script = code_block("docs/messages.md", "http").replace(HTTP_API, service.server.http_address)
    shown = json_values(await run(service, tmp_path, "bash", "-euc", script))
    updated, ended, failed = shown[-5], shown[-3], shown[-1]
    assert updated["outcome"]["success"][0]["status"] == "pending"
    assert result_of(ended)["result"][0]["status"] == "active"
    info = result_of(failed)["failure"]["applicationFailureInfo"]
    assert (info["type"], info["nonRetryable"]) == ("InvalidRequest", True)
    fields = [error["field"] for error in info["details"][0]]
    assert fields == ["account_name", "customer_email", "requester"]
    await service.mail.wait_for("welcome", "cy@stratus.example")
    await refusals_over_http(service, new_request)


async def refusals_over_http(service: Service, request: dict[str, Any]) -> None:
    started = await service.start(request)
    await service.wait_for(started, Status.PENDING)
    workflows = f"http://{service.server.http_address}/api/v1/namespaces/default/workflows"
    url = f"{workflows}/{started.workflow_id}"
    second = {
        "workflowType": {"name": "SmartAccountRequestWorkflow"},
        "taskQueue": {"name": "smart-account-requests"},
        "workflowIdConflictPolicy": "WORKFLOW_ID_CONFLICT_POLICY_FAIL",
        "input": [request],
    }
    update = {
        "request": {"meta": {}},
        "waitPolicy": {"lifecycleStage": "UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED"},
    }
    async with httpx.AsyncClient(timeout=30) as http:
        assert (await http.post(url, json=second)).status_code == 409
        rejected = await http.post(f"{url}/update/resend_activation_email", json=update)
        assert rejected.status_code == 200
        failure = rejected.json()["outcome"]["failure"]
        assert failure["applicationFailureInfo"]["type"] == "ActionRefused"
        status = await http.post(f"{url}/query/status", json={})
        assert status.json()["queryResult"][0]["needs_attention"] is None


def json_values(text: str) -> list[Any]:
    """Return the JSON values that follow one another in a text."""
    decoder, values, text = json.JSONDecoder(), [], text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].strip()
    return values


def result_of(response: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of the event that ended a workflow."""
    [event] = response["history"]["events"]
    [attributes] = [value for name, value in event.items() if name.endswith("EventAttributes")]
    assert isinstance(attributes, dict)
    return attributes
