"""An open page that loads itself again does not keep a session alive."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

from sqlalchemy import update

from smart_accounts.store import tables
from tests.support.partner_site import ACME_PAGE, PartnerSite, pat_request


async def is_use(partner_site: PartnerSite, url: str) -> bool:
    """Return True if the session of a person who opens this page ends later because of that."""
    earlier = datetime.now(UTC) - timedelta(minutes=30)
    sessions = tables.sessions
    async with partner_site.store.engine.begin() as connection:
        await connection.execute(update(sessions).values(last_used_at=earlier))
    assert (await partner_site.http.get(url)).status_code == 200
    async with partner_site.store.engine.begin() as connection:
        query = sessions.select().with_only_columns(sessions.c.last_used_at)
        [last_used_at] = (await connection.execute(query)).scalars()
    return bool(last_used_at > earlier)


async def test_open_page_is_no_use(partner_site: PartnerSite) -> None:
    await partner_site.add_request(pat_request())
    [url] = re.findall('data-page="([^"]+)"', (await partner_site.http.get(ACME_PAGE)).text)
    assert await is_use(partner_site, ACME_PAGE)
    assert not await is_use(partner_site, unescape(url))
