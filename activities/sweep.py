"""Compare the store with Temporal."""

from temporalio import activity
from temporalio.client import Client

from activities.emails import heartbeats
from smart_accounts.contract.steps import Sweep, Swept
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.differences import Difference
from smart_accounts.sweep.sweep import Sweeper
from smart_accounts.temporal.metrics import SWEEP_DIFFERENCES, SWEEP_HELD
from smart_accounts.tokens import LinkTokens


class SweepActivities:
    def __init__(self, client: Client, store: AccountStore, tokens: LinkTokens) -> None:
        self._client = client
        self._store = store
        self._tokens = tokens

    @activity.defn
    async def sweep(self, _sweep: Sweep) -> Swept:
        """Compare the store with Temporal, and repair both ways. Count what differed."""
        meter = activity.metric_meter()

        def count(difference: Difference) -> None:
            SWEEP_DIFFERENCES.add(meter, kind=difference.kind)

        sweeper = Sweeper(self._client, self._store, self._tokens, on_difference=count)
        async with heartbeats():
            report = await sweeper.run()
        if report.held:
            SWEEP_HELD.add(meter)
        return Swept(differences=report.counts(), is_held=report.held is not None)
