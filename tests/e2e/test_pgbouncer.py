"""The store behind Debian's pgbouncer, which gives each transaction any of its connections."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.steps import Checked, Decision, OpenRequest, RecordDecision
from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore
from tests.support.limits import new_limits

NOW = datetime.now(UTC)
LIMITS = new_limits(open_per_customer=100, emails_per_mailbox_per_day=100)


async def test_store_works_behind_pgbouncer_in_transaction_mode(
    pgbouncer_url: str, example: dict[str, Any]
) -> None:
    await migrate(pgbouncer_url)

    async def live(store: AccountStore, domain: str) -> Status | None:
        request = SmartAccountRequest.model_validate(example | {"account_domain": domain})
        opening = OpenRequest(
            request_id=domain, request=request, requested_at=NOW, deadline=NOW + timedelta(days=90)
        )
        assert await store.requests.open(opening, (), LIMITS) == Checked()
        accepted = Decision(status=Status.ACTIVE, at=NOW, by="ada@acme.example")
        await store.requests.activate(RecordDecision(request_id=domain, decision=accepted))
        found = await store.requests.find(domain)
        return found.status if found else None

    async with AccountStore.open(pgbouncer_url) as web, AccountStore.open(pgbouncer_url) as worker:
        ends = await asyncio.gather(
            *(live(web, f"web-{number}.example") for number in range(12)),
            *(live(worker, f"worker-{number}.example") for number in range(12)),
        )
        await web.ping()
        page = await web.listing.page(owner=None)
    assert set(ends) == {Status.ACTIVE}
    assert page.total == len(ends)
