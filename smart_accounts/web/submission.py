"""Sending a request, from the form or the API: refused before anything is started, or started."""

import hashlib
from datetime import UTC, datetime

from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.errors import Rejected
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient, Started


class KeyReused(Rejected):
    """The idempotency key was used before, for another request."""


class Submission:
    def __init__(self, store: AccountStore, client: RequestClient, limits: Limits) -> None:
        self._store = store
        self._client = client
        self._ceilings = limits

    async def send(self, request: SmartAccountRequest, key: str) -> Started:
        """Start the request; the same key again answers the request it started before.

        A key is its requester's own: another's, be it the same text, is another key.

        Raises:
            Rejected: why not; nothing was started.
            Unavailable: Temporal or the database does not answer.
        """
        scoped = _digest(request.requester.email.lower(), key)
        call = _digest(
            scoped, request.model_dump_json(exclude={"requester"}, exclude_defaults=True)
        )
        if first := await self._store.keys.call_of(scoped):
            _check_same(call, first)
            if known := await self._known(request, call):
                return known
        now = datetime.now(UTC)
        if reason := await self._store.refusal(request, now, self._ceilings):
            if known := await self._known(request, call):  # stored meanwhile: it counts itself
                return known
            raise Rejected(reason)
        # Before the start: two calls at once may have the same key for different domains.
        _check_same(call, await self._store.keys.claim(scoped, call, now))
        return await self._client.start(request, key=call)

    async def _known(self, request: SmartAccountRequest, call: str) -> Started | None:
        known = await self._store.find_by_key(request.requester.email, call)
        return Started(known.workflow_id, known.id, known.requested_at) if known else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _check_same(call: str, first: str) -> None:
    if call != first:
        raise KeyReused("The key was used before, for another request; take a new one.")
