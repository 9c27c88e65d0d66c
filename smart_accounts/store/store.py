"""The account store: what is true about accounts and requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.errors import Unavailable
from smart_accounts.settings import POOL_SIZE
from smart_accounts.store.adoption import Adoption
from smart_accounts.store.audit import AuditTrail
from smart_accounts.store.comparison import Comparison
from smart_accounts.store.database import DEFAULT_SOURCE, create_engine
from smart_accounts.store.deliveries import Deliveries
from smart_accounts.store.drafts import Drafts
from smart_accounts.store.emails import EmailLedger
from smart_accounts.store.erasure import Erasure
from smart_accounts.store.idempotency import IdempotencyKeys
from smart_accounts.store.links import ActivationLinks
from smart_accounts.store.listing import RequestListing
from smart_accounts.store.migrate import find_revision, revisions
from smart_accounts.store.partners import Partners
from smart_accounts.store.purge import Purge
from smart_accounts.store.rebuilding import Rebuilding
from smart_accounts.store.requests import Requests
from smart_accounts.store.restarts import Restarts
from smart_accounts.store.reviews import Reviews
from smart_accounts.store.sessions import StoredSessions
from smart_accounts.store.webhook_secrets import WebhookSecrets
from smart_accounts.store.webhooks import Webhooks


class AccountStore:
    """One database and the parts of the store that use it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.requests = Requests(engine)
        self.reviews = Reviews(engine)
        self.links = ActivationLinks(engine)
        self.emails = EmailLedger(engine)
        self.listing = RequestListing(engine)
        self.idempotency = IdempotencyKeys(engine)
        self.partners = Partners(engine)
        self.sessions = StoredSessions(engine)
        self.drafts = Drafts(engine)
        self.adoption = Adoption(engine)
        self.audit = AuditTrail(engine)
        self.erasure = Erasure(engine)
        self.purge = Purge(engine)
        self.comparison = Comparison(engine)
        self.rebuilding = Rebuilding(engine)
        self.restarts = Restarts(engine)
        self.webhooks = Webhooks(engine)
        self.webhook_secrets = WebhookSecrets(engine)
        self.deliveries = Deliveries(engine)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, pool_size: int = POOL_SIZE, source: str = DEFAULT_SOURCE
    ) -> AsyncIterator[Self]:
        """Open the store on a database that has been migrated.

        ``source`` is ``PUBLIC_URL``. A program that changes requests must pass it, because webhook
        events have it.
        """
        engine = create_engine(url, pool_size=pool_size, event_source=source)
        try:
            yield cls(engine)
        finally:
            await engine.dispose()

    async def ping(self) -> None:
        """Check that the database responds and is migrated as far as this code needs.

        Raises:
            Unavailable: the database does not respond, or is not migrated yet.
        """
        found = await find_revision(self.engine)
        # An unknown revision belongs to a newer release.
        if found is None or found in revisions()[:-1]:
            raise Unavailable("The database is not migrated yet. The worker migrates it.")
