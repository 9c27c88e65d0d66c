"""The API on the real store, with an identity provider, and a Temporal that remembers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from smart_accounts.contract.messages import (
    Status,
)
from smart_accounts.contract.steps import Decision, OpenRequest, RecordDecision
from smart_accounts.settings import Settings
from smart_accounts.store.limits import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.api import routes
from smart_accounts.web.app import create_app
from smart_accounts.web.auth.provider import open_provider
from tests.support.fake_temporal import FakeTemporal
from tests.support.keys import KEY

LIMITS = Limits(open_per_customer=5, starts_per_requester_per_hour=500)


@dataclass
class Api:
    http: httpx.AsyncClient
    """Signed in as Pat."""
    store: AccountStore
    temporal: FakeTemporal
    issuer: Any
    body: dict[str, Any]
    """A request that can be made."""
    stored: list[str] = field(default_factory=list)

    async def worker_stores(self, its_id: str = "smart-account-acme.example") -> str:
        """What a worker does first with what Temporal has."""
        running, key = self.temporal.running[its_id]
        await self.store.requests.open(
            OpenRequest(
                request_id=running.request_id,
                request=running.request,
                requested_at=running.requested_at,
                deadline=running.requested_at + timedelta(days=90),
                idempotency_key=key,
            ),
            (),
            LIMITS,
        )
        return running.request_id

    async def ends(self, status: Status, its_id: str = "smart-account-acme.example") -> str:
        """The newest request of that id ends, stored and closed in Temporal."""
        request_id = await self.worker_stores(its_id)
        decision = Decision(status=status, at=datetime.now(UTC), by="requester")
        step = (
            self.store.requests.activate if status is Status.ACTIVE else self.store.requests.close
        )
        await step(RecordDecision(request_id=request_id, decision=decision))
        del self.temporal.running[its_id]
        return request_id

    def as_(self, **claims: Any) -> dict[str, str]:
        headers: dict[str, str] = self.issuer.headers(**claims)
        return headers


@asynccontextmanager
async def open_http(
    store: AccountStore, client: RequestClient, issuer: Any, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Open the API, signed in as Pat."""
    settings = Settings(
        _env_file=None,
        public_url="https://accounts.example",
        secret_keys=KEY,
        smtp_hostname="127.0.0.1",
        mail_from="accounts@service.example",
        **issuer.settings | changes,
    )
    async with open_provider(settings) as provider:
        app = create_app(store, client, LinkTokens([KEY]), settings, provider)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=issuer.headers()
        ) as http:
            yield http


START_SECONDS = routes.START_SECONDS


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine's database may take longer than a start is waited for."""
    monkeypatch.setattr(routes, "START_SECONDS", 40)


@pytest.fixture
def promised(patience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start is waited for as long as in production."""
    monkeypatch.setattr(routes, "START_SECONDS", START_SECONDS)


@pytest.fixture
async def api(store: AccountStore, issuer: Any, example: dict[str, Any]) -> AsyncIterator[Api]:
    temporal = FakeTemporal()
    del example["requester"]
    async with open_http(store, temporal, issuer) as http:
        yield Api(http, store, temporal, issuer, example)


@pytest.fixture
def api_on(store: AccountStore, issuer: Any) -> Any:
    """The API on another client of Temporal, or with other settings."""
    return lambda client, **changes: open_http(store, client, issuer, **changes)
