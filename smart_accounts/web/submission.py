"""Submit a request from the form or the API."""

import hashlib
from datetime import UTC, datetime

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.errors import Rejected
from smart_accounts.store.limits import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.records import Started


class KeyReused(Rejected):
    """The idempotency key was already used for another request."""


class Submission:
    def __init__(self, store: AccountStore, client: RequestClient, limits: Limits) -> None:
        self._store = store
        self._client = client
        self._limits = limits

    async def send(self, request: SmartAccountRequest, key: str, owner: Identity) -> Started:
        """Start the request. The same key again returns the request that it started before.

        Each owner has their own keys, because two owners may choose the same key.

        Raises:
            Rejected: nothing was started, and the message is the reason.
            Unavailable: Temporal or the database is down.
        """
        owner_key = _digest(owner.issuer, owner.subject, key)
        call = _digest(
            owner_key, request.model_dump_json(exclude={"requester"}, exclude_defaults=True)
        )
        if first := await self._store.idempotency.call_of(owner_key):
            _check_same(call, first)
            if known := await self._find(owner, call):
                return known
        now = datetime.now(UTC)
        if rejection := await self._store.requests.reason_to_reject(
            request, owner, now, self._limits
        ):
            # A concurrent call with this key may have stored the request, which then counts
            # against its own limits.
            if known := await self._find(owner, call):
                return known
            raise Rejected(rejection.reason, rejection.retry_at)
        # Claim the key before the start, because two concurrent calls may use it for two domains.
        _check_same(call, await self._store.idempotency.claim(owner_key, call, now))
        try:
            return await self._client.start(request, key=call, owner=owner)
        except Rejected:
            await self._store.idempotency.release(owner_key)
            # Operators see that two requesters want the same domain.
            await self._store.requests.note_contested(request.account_domain, owner, now)
            raise

    async def _find(self, owner: Identity, call: str) -> Started | None:
        known = await self._store.idempotency.find_request(owner, call)
        return Started(known.workflow_id, known.id, known.requested_at) if known else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _check_same(call: str, first: str) -> None:
    if call != first:
        raise KeyReused("The key was already used for another request. Choose a new key.")
