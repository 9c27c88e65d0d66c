"""The API, and the time for which it waits until Temporal has started a request."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.web.api import routes
from tests.support.api import Api, OpenApi, open_http
from tests.support.fake_temporal import FakeTemporal
from tests.support.issuer import Issuer

START_SECONDS = routes.START_SECONDS


@pytest.fixture(autouse=True)
def long_start_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for a start, because the database of a busy machine may be slow."""
    monkeypatch.setattr(routes, "START_SECONDS", 40)


@pytest.fixture
def real_start_timeout(long_start_timeout: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a start as long as in production."""
    monkeypatch.setattr(routes, "START_SECONDS", START_SECONDS)


@pytest.fixture
async def api(store: AccountStore, issuer: Issuer, example: dict[str, Any]) -> AsyncIterator[Api]:
    temporal = FakeTemporal()
    del example["requester"]
    async with open_http(store, temporal, issuer) as http:
        yield Api(http, store, temporal, issuer, example)


@pytest.fixture
def open_api(store: AccountStore, issuer: Issuer) -> OpenApi:
    def opened(
        client: RequestClient, **settings: Any
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        return open_http(store, client, issuer, **settings)

    return opened
