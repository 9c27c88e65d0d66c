"""The API on the real store, with an issuer of access tokens and a fake Temporal."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx

from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Decision, OpenRequest, RecordDecision
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from smart_accounts.web.auth.provider import open_provider
from tests.support.fake_temporal import FakeTemporal
from tests.support.issuer import Issuer
from tests.support.keys import KEY
from tests.support.limits import new_limits
from tests.support.web_settings import web_settings

REQUESTS = "/api/v1/requests"
ACME = "smart-account-acme.example"
ACME_REQUEST = f"{REQUESTS}/{ACME}"
LIMITS = new_limits()


@dataclass
class Api:
    """The API, and what a worker does meanwhile."""

    http: httpx.AsyncClient
    """Sends an access token of Pat."""
    store: AccountStore
    temporal: FakeTemporal
    issuer: Issuer
    body: dict[str, Any]
    """A valid new request."""

    async def store_running_request(
        self, workflow_id: str = ACME, odd: tuple[str, ...] = ()
    ) -> str:
        """Store the request that Temporal has. Return its id. An odd one is in review."""
        running, key = self.temporal.running[workflow_id]
        await self.store.requests.open(
            OpenRequest(
                request_id=running.request_id,
                request=running.request,
                requested_at=running.requested_at,
                deadline=running.requested_at + timedelta(days=90),
                idempotency_key=key,
                requester_issuer=running.owner.issuer if running.owner else None,
                requester_subject=running.owner.subject if running.owner else None,
            ),
            odd,
            LIMITS,
        )
        return running.request_id

    async def end_request(self, status: Status, workflow_id: str = ACME) -> str:
        """Store the end of the running request, and close it in Temporal. Return its id."""
        request_id = await self.store_running_request(workflow_id)
        decision = Decision(status=status, at=datetime.now(UTC), by="requester")
        requests = self.store.requests
        record = requests.activate if status is Status.ACTIVE else requests.close
        await record(RecordDecision(request_id=request_id, decision=decision))
        del self.temporal.running[workflow_id]
        return request_id


class OpenApi(Protocol):
    """Opens the API on another client of Temporal or with other settings."""

    def __call__(
        self, client: RequestClient, **settings: Any
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]: ...


@asynccontextmanager
async def open_http(
    store: AccountStore, client: RequestClient, issuer: Issuer, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client of the API that sends an access token of Pat."""
    settings = web_settings("https://accounts.example", **issuer.settings | changes)
    async with open_provider(settings) as provider:
        app = create_app(store, client, LinkTokens([KEY]), settings, provider)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", headers=issuer.headers()
        ) as http:
            yield http


def check_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that the response is a problem document with this status, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["title"]
    assert ("errors" in problem) == (status == 422)
    assert "Traceback" not in response.text
    return problem


def errors_of(response: httpx.Response) -> dict[str, str]:
    """Return the message for each field of a problem document."""
    return {each["field"]: each["message"] for each in check_problem(response, 422)["errors"]}


async def create_request(
    http: httpx.AsyncClient, body: dict[str, Any], key: str | None = None
) -> httpx.Response:
    """Repeat the call while a busy machine responds 503. One key creates only one request.

    ``elapsed`` of the response is the time of the last call alone.
    """
    headers = {"Idempotency-Key": key} if key else {}
    async with asyncio.timeout(40):
        while True:
            response = await http.post(REQUESTS, json=body, headers=headers)
            if response.status_code != 503:
                return response
            await asyncio.sleep(0.2)
