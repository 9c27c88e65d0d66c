"""The web application on the real store, with a fake Temporal."""

import socket
import uuid
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx
from fastapi import FastAPI
from sqlalchemy import insert, select, update

from smart_accounts.contract.messages import Status
from smart_accounts.store import tables
from smart_accounts.store.links import save_link
from smart_accounts.store.records import StoredRequest
from smart_accounts.tokens import LinkTokens, token_hash
from smart_accounts.web.dependencies import Services
from tests.support.fake_temporal import FakeTemporal
from tests.support.faulty_store import FaultyStore
from tests.support.keys import KEY
from tests.support.partners import PAT, services_of, session_cookie

AGREED = {"agree": "yes"}
"""The form of the activation page with its box checked."""


@dataclass
class Site:
    """One web application, and an HTTP client that follows no redirects."""

    app: FastAPI
    store: FaultyStore
    temporal: FakeTemporal
    http: httpx.AsyncClient
    url: str
    listener: socket.socket
    request_id: str = ""
    """The id of the newest request."""

    @property
    def services(self) -> Services:
        return services_of(self.app)

    async def add_request(self, **changes: Any) -> str:
        """Store a request and its first activation link. Return the link's token."""
        request = replace(pending_request(), id=str(uuid.uuid4()), **changes)
        self.request_id = request.id
        async with self.store.engine.begin() as connection:
            await connection.execute(insert(tables.requests).values(asdict(request)))
        token = LinkTokens([KEY]).candidates(request.id, 1)[0]
        await self.add_link(token)
        return token

    async def add_link(self, token: str) -> None:
        """Store the token as the first link of the newest request, whichever key signed it."""
        async with self.store.engine.begin() as connection:
            await save_link(connection, self.request_id, 1, token_hash(token))

    async def update_request(self, **changes: Any) -> None:
        """Change the newest request as the worker does."""
        async with self.store.engine.begin() as connection:
            newest = tables.requests.c.id == self.request_id
            await connection.execute(update(tables.requests).where(newest).values(**changes))

    async def stored_request(self) -> StoredRequest:
        request = await self.store.requests.find(self.request_id)
        assert request
        return request

    async def all_rows(self) -> list[Any]:
        async with self.store.engine.connect() as connection:
            return [
                (await connection.execute(select(table))).all()
                for table in tables.metadata.sorted_tables
            ]

    async def start_session(self, **changes: Any) -> None:
        """Give the HTTP client a session of Pat, or of Pat with these changes."""
        issuer = self.services.settings.oidc_issuer
        assert issuer
        pat = replace(PAT, issuer=issuer)
        name, value = await session_cookie(self.app, replace(pat, **changes))
        self.http.cookies.set(name, value, domain="127.0.0.1")


class OpenSite(Protocol):
    """Opens the web application with these settings."""

    def __call__(
        self, public_url: str | None = None, **settings: Any
    ) -> AbstractAsyncContextManager[Site]: ...


def pending_request() -> StoredRequest:
    now = datetime.now(UTC)
    return StoredRequest(
        id="",
        workflow_id="smart-account-acme.example",
        status=Status.PENDING,
        account_name="Acme Networks",
        account_domain="acme.example",
        customer_email="ada@acme.example",
        requester_email="pat@partner.example",
        requester_name="Pat Lee",
        requester_company="Partner Ltd",
        requester_issuer=PAT.issuer,
        requester_subject=PAT.subject,
        company_is_stated=False,
        note_to_customer="As agreed on the phone.\nPlease answer soon.",
        note_to_added_users="Welcome aboard.",
        added_users=("bo@acme.example", "cy@acme.example"),
        needs_attention=(),
        requested_at=now - timedelta(days=1, minutes=5),
        deadline=now + timedelta(days=88, hours=23),
        link_ordinal=1,
        signalled=None,
        signalled_link=None,
        decided_at=None,
        decided_by=None,
        reason=None,
    )
