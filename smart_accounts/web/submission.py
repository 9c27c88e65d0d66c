"""Sending a request, from the form or the API: refused before anything is started, or started."""

from datetime import UTC, datetime

from smart_accounts.accounts.records import Ceilings
from smart_accounts.accounts.store import AccountStore
from smart_accounts.client import RequestClient, Started
from smart_accounts.errors import Refused
from smart_accounts.messages import SmartAccountRequest


class Submission:
    def __init__(self, store: AccountStore, client: RequestClient, ceilings: Ceilings) -> None:
        self._store = store
        self._client = client
        self._ceilings = ceilings

    async def send(self, request: SmartAccountRequest, key: str) -> Started:
        """Start the request; the same key again answers the request it started before.

        Raises:
            Refused: why not; nothing was started.
            Unavailable: Temporal or the database does not answer.
        """
        if known := await self._store.find_by_key(request.requester.email, key):
            return Started(known.workflow_id, known.id)
        if reason := await self._store.refusal(request, datetime.now(UTC), self._ceilings):
            raise Refused(reason)
        return await self._client.start(request, key=key)
