"""Purge requests that ended long ago, in the store and in Temporal, and old webhooks."""

from datetime import UTC, datetime, timedelta

from temporalio import activity

from activities.emails import heartbeats
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.histories import Histories


class ErasureActivities:
    def __init__(
        self, store: AccountStore, histories: Histories, purge_after: timedelta | None
    ) -> None:
        self._store = store
        self._histories = histories
        self._purge_after = purge_after

    @activity.defn
    async def purge_ended_requests(self) -> int:
        """Purge all requests that ended longer ago than ``PURGE_AFTER``, and old webhooks.

        Returns how many were purged. If this is interrupted, the next call continues. A request
        whose last emails are not sent yet is left to the next call.
        """
        now = datetime.now(UTC)
        async with heartbeats():
            await self._store.deliveries.remove_old(now)
            if self._purge_after is None:
                return 0
            return await self._purge(now - self._purge_after)

    async def _purge(self, before: datetime) -> int:
        purged = 0
        skipped: set[str] = set()
        while ended := await self._store.purge.ended(before, skipped):
            ready = []
            for each in ended:
                if await self._histories.are_running(each):
                    skipped.add(each.id)
                    continue
                # The histories first: once the store is purged, nothing leads to them.
                await self._histories.delete(each)
                ready.append(each)
            await self._store.purge.purge(ready, datetime.now(UTC))
            purged += len(ready)
        await self._store.purge.remove_old(before)
        return purged
