"""Drafts of request forms, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from smart_accounts.contract.identity import Identity
from smart_accounts.store.drafts import KEPT_AT_MOST, Draft
from smart_accounts.store.migrate import migrate
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from tests.support.partners import PAT

NOW = datetime.now(UTC)


async def test_drafts_of_many_tabs_at_once(any_database_url: str) -> None:
    await migrate(any_database_url)
    fields = {"account_name": "\x00 \\u0000 \U0001f680 '; --", "user_emails": "\ufffd" * 9000}
    long_ago, other = NOW - timedelta(days=2), replace(PAT, subject="other")

    def save(number: int, owner: Partner = PAT, at: datetime = NOW) -> Awaitable[None]:
        draft = Draft(id=f"{number % 15}", fields=fields, rejection="No.", is_late=True)
        return store.drafts.save(owner, draft, at)

    async with AccountStore.open(any_database_url) as store:
        await asyncio.gather(*(save(number, other, long_ago) for number in range(15)))
        await asyncio.gather(*(save(number) for number in range(40)))
        await save(0)
        found = [await store.drafts.find(PAT.identity, f"{n}", NOW) for n in range(15)]
        kept = [each for each in found if each]
        assert len(kept) == KEPT_AT_MOST
        assert kept[0] == Draft(id="0", fields=fields, rejection="No.", is_late=True)
        assert not await store.drafts.find(other.identity, "0", NOW)
        assert not await store.drafts.find(Identity("x", PAT.subject), "0", NOW)
