"""A request on the time-skipping server, with the real activities, emails and store."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.names import DEADLINE, DOMAIN, STATUS
from smart_accounts.errors import Unavailable
from smart_accounts.settings import Settings, SmtpTls
from smart_accounts.store.limits import Limits
from smart_accounts.store.requests import Requests
from smart_accounts.store.store import AccountStore
from tests.support.mail_server import MailServer
from tests.support.ports import FreePort
from tests.support.scenario import Run, Scenario
from tests.support.temporal_server import terminate_open_workflows
from tests.support.web_settings import web_settings


@pytest.fixture
async def env(free_port: FreePort) -> AsyncIterator[WorkflowEnvironment]:
    """A time-skipping server for each test. It starts in 0.2 s.

    Tests cannot share one, because a workflow that is terminated while it waits, or a child that
    outlives its parent, leaves the server's clock locked.
    """
    path = shutil.which("temporal-test-server", path=str(Path(sys.executable).parent))
    assert path
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter, port=free_port(), test_server_existing_path=path
    ) as running:
        await running.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace=running.client.namespace,
                search_attributes={
                    STATUS.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                    DOMAIN.name: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
                    DEADLINE.name: IndexedValueType.INDEXED_VALUE_TYPE_DATETIME,
                },
            )
        )
        yield running


@pytest.fixture
async def dev_server_env(temporal: Client) -> AsyncIterator[WorkflowEnvironment]:
    """The real server, which tells a running activity when it is cancelled."""
    yield WorkflowEnvironment.from_client(temporal)
    await terminate_open_workflows(temporal)


@pytest.fixture
def settings(mail_server: MailServer) -> Settings:
    return web_settings(
        "https://accounts.example",
        smtp_port=mail_server.port,
        smtp_tls=SmtpTls.NONE,
        bounce_domain="bounces.example",
        max_open_per_customer=5,
        max_starts_per_requester_per_hour=7,
    )


@pytest.fixture
def limits(settings: Settings) -> Limits:
    return Limits.of(settings)


@pytest.fixture
def scenario(
    env: WorkflowEnvironment, store: AccountStore, settings: Settings, example: dict[str, Any]
) -> Scenario:
    return Scenario(env, store, settings, example)


@pytest.fixture
async def run() -> Run:
    """Return a way to run coroutines on the loop of the fixtures from a test without a loop."""
    return asyncio.get_running_loop().run_until_complete


@pytest.fixture
async def scenario_with_worker(scenario: Scenario) -> AsyncIterator[Scenario]:
    async with scenario.worker():
        yield scenario


@pytest.fixture
def checks_may_end(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Until this is set, the system checks fail as if the database were down."""
    may_end, check = asyncio.Event(), Requests.open

    async def check_later(requests: Requests, *given: Any) -> Any:
        if not may_end.is_set():
            raise Unavailable("The database does not respond.")
        return await check(requests, *given)

    monkeypatch.setattr(Requests, "open", check_later)
    return may_end
