"""A Python client that is generated from the description of the API, against the real service."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.support.issuer import Issuer
from tests.support.service import Service

BIN = Path(sys.executable).parent
PACKAGE = "smart_accounts_client"


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder from which the generated package is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def generate(document: dict[str, Any], folder: Path) -> None:
    """Generate the client and fail on any warning of the generator."""
    source = folder / "openapi.json"
    source.write_text(json.dumps(document))
    subprocess.run(
        [
            str(BIN / "openapi-python-client"),
            "generate",
            f"--path={source}",
            f"--output-path={folder / PACKAGE}",
            "--meta=none",
            "--fail-on-warning",
        ],
        check=True,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
    )


def operation(name: str, tag: str = "requests") -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.api.{tag}.{name}")


async def use_requests(client: Any, models: ModuleType, new_request: dict[str, Any]) -> None:
    body = models.NewRequest.from_dict(new_request)
    while True:
        created = await operation("create_request").asyncio(
            client=client, body=body, idempotency_key="first"
        )
        if created.status != HTTPStatus.SERVICE_UNAVAILABLE:
            break  # otherwise the machine is busy, and one key creates only one request
    assert isinstance(created, models.RequestDetail)
    assert created.status in (models.Status.REQUESTED, models.Status.PENDING)
    id_ = created.workflow_id

    while True:  # until the worker has checked the request
        read = await operation("get_request").asyncio(id_, client=client)
        if read.status == models.Status.PENDING:
            break
    assert (read.request_id, read.account_name) == (created.request_id, "Acme Networks")

    page = await operation("list_requests").asyncio(client=client, status=models.Status.PENDING)
    assert [each.request_id for each in page.items] == [created.request_id]

    withdrawn = await operation("withdraw_request").asyncio(
        id_, client=client, body=models.Withdrawal(reason="Wrong company.")
    )
    assert isinstance(withdrawn, models.ActionResult)
    assert withdrawn.status == models.Status.WITHDRAWN

    again = await operation("withdraw_request").asyncio(id_, client=client)
    assert isinstance(again, models.ActionResult)
    late = await operation("resend_activation_email").asyncio(id_, client=client)
    assert isinstance(late, models.Problem)
    assert late.status == 409


async def use_webhooks(client: Any, models: ModuleType) -> None:
    webhook = await operation("register_webhook", "webhooks").asyncio(
        client=client, body=models.NewWebhook(url="http://127.0.0.1:9999/")
    )
    assert isinstance(webhook, models.WebhookWithSecret)
    paused = await operation("change_webhook", "webhooks").asyncio(
        webhook.id,
        client=client,
        body=models.WebhookChange(state=models.WebhookChangeStateType0.PAUSED),
    )
    assert paused.state == models.EndpointState.PAUSED
    await operation("delete_webhook", "webhooks").asyncio_detailed(webhook.id, client=client)
    listed = await operation("list_webhooks", "webhooks").asyncio(client=client)
    assert listed.items == []


async def test_generated_client_calls_each_kind_of_operation(
    service: Service, issuer: Issuer, new_request: dict[str, Any], generated: Path
) -> None:
    service.settings |= {
        f"SMART_ACCOUNTS_{name.upper()}": value for name, value in issuer.settings.items()
    }
    await service.start_worker()
    address = await service.start_web()
    async with httpx.AsyncClient() as http:
        generate((await http.get(f"{address}/openapi.json")).json(), generated)
    package = importlib.import_module(PACKAGE)
    models = importlib.import_module(f"{PACKAGE}.models")

    del new_request["requester"]
    async with package.AuthenticatedClient(address, issuer.token(), timeout=30) as client:
        await use_requests(client, models, new_request)
        await use_webhooks(client, models)
