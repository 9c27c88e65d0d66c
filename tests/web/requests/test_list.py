"""The list of a partner's requests."""

from datetime import UTC, datetime, timedelta

import pytest

from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.steps import Decision
from tests.support.page_content import visible_text
from tests.support.partner_site import PartnerSite, pat_request

NOW = datetime.now(UTC)


@pytest.fixture
async def many_requests(partner_site: PartnerSite) -> None:
    for number in range(27):
        at = NOW - timedelta(days=number, hours=1)
        name = f"Company {number}"
        await partner_site.add_request(pat_request(f"c{number}.example", account_name=name), at=at)
    newest = (await partner_site.store.listing.page(owner=None)).items[0].request
    await partner_site.record_email(newest.id, EmailKind.ACTIVATION)
    await partner_site.record_decision(newest.id, Decision(status=Status.DECLINED, at=NOW))


LISTS = {
    # for each query: what the page shows, and what it does not show
    "": (
        ["1\N{EN DASH}25 of 27 requests", "Company 0", "Company 24", "Page 1 of 2"],
        ["Company 25"],
    ),
    "?page=2": (["26\N{EN DASH}27 of 27 requests", "Company 25"], ["Company 24 "]),
    "?page=9": (["There are only 2 pages"], ["Company"]),
    "?page=0": (["1\N{EN DASH}25 of 27"], []),
    "?page=x&status=none": (["1\N{EN DASH}25 of 27"], []),
    "?status=declined": (["1 request found", "Company 0", "Ended"], ["Company 1"]),
    "?status=active": (["No requests found."], ["Company"]),
    "?q=c26.EX": (["1 request found", "Company 26", "64 days left"], ["Company 0"]),
    "?q=%00c26.EX%1b": (["1 request found", "Company 26"], ["Company 0"]),
    "?q=comp%C2%ADany+%E2%80%8F26": (["1 request found", "Company 26"], ["Company 0"]),
    "?q=%25": (["No requests found."], []),
    "?q=company&status=pending&page=2": (["26\N{EN DASH}26 of 26", "Company 26"], []),
}


async def test_list_filters_searches_and_pages(
    partner_site: PartnerSite, many_requests: None
) -> None:
    for query, (present, absent) in LISTS.items():
        response = await partner_site.http.get(f"/requests{query}")
        assert response.status_code == 200, query
        shown = visible_text(response)
        assert [words for words in present if words not in shown] == [], query
        shown = shown.replace("of the account", "")
        assert [words for words in absent if words in shown] == [], query


async def test_links_to_other_pages_keep_the_filter(
    partner_site: PartnerSite, many_requests: None
) -> None:
    response = await partner_site.http.get("/requests?q=c&status=pending")
    assert 'href="/requests?status=pending&amp;q=c&amp;page=2"' in response.text
    assert '<option value="pending" selected>' in response.text


async def test_empty_list_links_to_the_form(partner_site: PartnerSite) -> None:
    response = await partner_site.http.get("/requests")
    assert "You have not requested a Smart Account yet." in visible_text(response)
    assert response.text.count('href="/requests/new"') == 2
