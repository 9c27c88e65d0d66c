"""Compare the store with Temporal."""

from collections.abc import Sequence

from temporalio import activity
from temporalio.client import Client

from activities.emails import heartbeats
from smart_accounts.contract.steps import Sweep, Swept
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.differences import Difference
from smart_accounts.sweep.sweep import Sweeper
from smart_accounts.temporal.metrics import SWEEP_DIFFERENCES, SWEEP_HELD
from smart_accounts.tokens import LinkTokens
from smart_accounts.webhooks.signing import sealed_again


class SweepActivities:
    def __init__(self, client: Client, store: AccountStore, keys: Sequence[str]) -> None:
        self._client = client
        self._store = store
        self._keys = keys

    @activity.defn
    async def sweep(self, _sweep: Sweep) -> Swept:
        """Compare the store with Temporal, and repair both ways. Count what differed.

        Before this, encrypt webhooks' secrets with the newest key. A web process that was restarted
        after the workers has used the older key until then.
        """
        meter = activity.metric_meter()

        def count(difference: Difference) -> None:
            SWEEP_DIFFERENCES.add(meter, kind=difference.kind)

        tokens = LinkTokens(self._keys)
        sweeper = Sweeper(self._client, self._store, tokens, on_difference=count)
        async with heartbeats():
            await self._store.webhook_secrets.replace(lambda each: sealed_again(each, self._keys))
            report = await sweeper.run()
        if report.held:
            SWEEP_HELD.add(meter)
        return Swept(differences=report.counts(), is_held=report.held is not None)
