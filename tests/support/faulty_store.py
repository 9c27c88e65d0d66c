"""The real account store, which can be made to fail as if the database were down."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.store.audit import AuditTrail
from smart_accounts.store.links import ActivationLinks
from smart_accounts.store.records import ActivationLink
from smart_accounts.store.requests import Requests
from smart_accounts.store.store import AccountStore


class FaultyLinks(ActivationLinks):
    lookups = 0
    error: Exception | None = None

    async def find(self, token_hash: str) -> ActivationLink | None:
        self.lookups += 1
        if self.error:
            raise self.error
        return await super().find(token_hash)


class FaultyRequests(Requests):
    error: Exception | None = None

    async def note_signalled(self, request_id: str, link: int, answer: str) -> None:
        if self.error:
            raise self.error
        await super().note_signalled(request_id, link, answer)


class FaultyAuditTrail(AuditTrail):
    error: Exception | None = None

    async def record(self, *args: Any, **values: Any) -> None:
        if self.error:
            raise self.error
        await super().record(*args, **values)


class FaultyStore(AccountStore):
    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.links: FaultyLinks = FaultyLinks(engine)
        self.requests: FaultyRequests = FaultyRequests(engine)
        self.audit: FaultyAuditTrail = FaultyAuditTrail(engine)
        self.ping_error: Exception | None = None

    def fail(self, error: Exception | None) -> None:
        """Raise this error from now on, or work again after None."""
        self.links.error = self.requests.error = self.ping_error = error

    async def ping(self) -> None:
        if self.ping_error:
            raise self.ping_error
        await super().ping()
