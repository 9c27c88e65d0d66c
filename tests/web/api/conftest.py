"""The API on the real store, with an identity provider, and a Temporal that remembers."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from smart_accounts.contract.messages import (
    ActionResult,
    NewApprover,
    SmartAccountRequest,
    Status,
    Withdrawal,
)
from smart_accounts.contract.names import workflow_id
from smart_accounts.contract.steps import Decision, OpenRequest, RecordDecision
from smart_accounts.errors import NotFound, Rejected, SmartAccountsError
from smart_accounts.settings import Settings
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient, RunningRequest, Started
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.api import routes
from smart_accounts.web.app import create_app

KEY = "a-key-for-tests-that-is-long-enough-to-be-one"
LIMITS = Limits(open_per_customer=5, starts_per_requester_per_hour=500)


class FakeTemporal(RequestClient):
    """Keeps what was started; ``fails`` is raised instead of any answer."""

    def __init__(self) -> None:
        self.open: dict[str, tuple[RunningRequest, str | None]] = {}
        self.acts: list[tuple[Any, ...]] = []
        self.fails: SmartAccountsError | None = None
        self.refuses: SmartAccountsError | None = None

    async def check(self) -> None:
        if self.fails:
            raise self.fails

    async def start(self, request: SmartAccountRequest, *, key: str | None = None) -> Started:
        await self.check()
        its_id = workflow_id(request.account_domain)
        if its_id in self.open:
            begun, its_key = self.open[its_id]
            if key != its_key:
                raise Rejected(f"A request for {request.account_domain} is already under way.")
            return begun
        begun = RunningRequest(its_id, str(uuid4()), datetime.now(UTC), request)
        self.open[its_id] = begun, key
        return Started(begun.workflow_id, begun.request_id, begun.requested_at)

    async def begun(self, workflow_id: str, *, run_id: str | None = None) -> RunningRequest:
        await self.check()
        begun, _ = self.open.get(workflow_id, (None, None))
        if begun is None or run_id not in (None, begun.request_id):
            raise NotFound("There is no open request there.")
        return begun

    async def resend(self, workflow_id: str, *, run_id: str | None = None) -> ActionResult:
        return await self._act("resend", workflow_id, run_id)

    async def replace_approver(
        self, workflow_id: str, new: NewApprover, *, run_id: str | None = None
    ) -> ActionResult:
        return await self._act("replace_approver", workflow_id, run_id, new.customer_email)

    async def withdraw(
        self, workflow_id: str, withdrawal: Withdrawal, *, run_id: str | None = None
    ) -> ActionResult:
        return await self._act("withdraw", workflow_id, run_id, withdrawal.reason)

    async def _act(self, *act: Any) -> ActionResult:
        if self.refuses:
            raise self.refuses
        self.acts.append(act)
        return ActionResult(status=Status.PENDING, message="Done.")


@dataclass
class Api:
    http: httpx.AsyncClient
    """Signed in as Pat."""
    store: AccountStore
    temporal: FakeTemporal
    issuer: Any
    body: dict[str, Any]
    """A request that can be made."""
    app: Any = None
    stored: list[str] = field(default_factory=list)

    async def worker_stores(self, its_id: str = "smart-account-acme.example") -> str:
        """What a worker does first with what Temporal has."""
        begun, key = self.temporal.open[its_id]
        await self.store.open_request(
            OpenRequest(
                request_id=begun.request_id,
                request=begun.request,
                requested_at=begun.requested_at,
                deadline=begun.requested_at + timedelta(days=90),
                idempotency_key=key,
            ),
            (),
            LIMITS,
        )
        return begun.request_id

    async def ends(self, status: Status, its_id: str = "smart-account-acme.example") -> str:
        """The newest request of that id ends, stored and closed in Temporal."""
        request_id = await self.worker_stores(its_id)
        decision = Decision(status=status, at=datetime.now(UTC), by="requester")
        step = self.store.activate if status is Status.ACTIVE else self.store.close
        await step(RecordDecision(request_id=request_id, decision=decision))
        del self.temporal.open[its_id]
        return request_id

    def as_(self, **claims: Any) -> dict[str, str]:
        headers: dict[str, str] = self.issuer.headers(**claims)
        return headers


def make_app(store: AccountStore, client: RequestClient, issuer: Any, **changes: Any) -> Any:
    settings = Settings(
        _env_file=None,
        public_url="https://accounts.example",
        secret_keys=KEY,
        smtp_hostname="127.0.0.1",
        mail_from="accounts@service.example",
        **issuer.settings | changes,
    )
    return create_app(store, client, LinkTokens([KEY]), settings)


def open_http(app: Any, issuer: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://127.0.0.1",
        headers=issuer.headers(),
    )


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
    app = make_app(store, temporal, issuer)
    del example["requester"]
    async with open_http(app, issuer) as http:
        yield Api(http, store, temporal, issuer, example, app)


@pytest.fixture
def api_on(store: AccountStore, issuer: Any) -> Any:
    """The API on another client of Temporal, or with other settings."""
    return lambda client, **changes: open_http(make_app(store, client, issuer, **changes), issuer)
