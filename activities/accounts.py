"""Short steps on the account store, run as local activities within the workflow task."""

from temporalio import activity

from smart_accounts.accounts.store import AccountStore
from smart_accounts.checks import oddities
from smart_accounts.messages import Opened, OpenRequest, RecordDecision


class AccountActivities:
    """Each is safe to run again: the store keys every write by the request's id."""

    def __init__(self, store: AccountStore) -> None:
        self._store = store

    @activity.defn
    async def open_request(self, new: OpenRequest) -> Opened:
        """System checks, then the provisional account."""
        found = oddities(new.request)
        return Opened(refused=await self._store.open_request(new, found), needs_attention=found)

    @activity.defn
    async def activate_account(self, record: RecordDecision) -> None:
        await self._store.activate(record.request_id, record.decision)

    @activity.defn
    async def close_request(self, record: RecordDecision) -> None:
        await self._store.close(record.request_id, record.decision)
