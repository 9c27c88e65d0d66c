"""The list of requests as a CSV file."""

import csv
import io
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import Unavailable
from smart_accounts.store import listing as store_listing
from smart_accounts.web.requests import listing
from tests.support.page_content import visible_text
from tests.support.partner_site import PartnerSite, pat_request
from tests.support.partners import KIM, OPERATOR

AT = datetime(2026, 9, 10, 14, 5, 30, 123456, tzinfo=UTC)


def rows(response: httpx.Response) -> list[dict[str, str]]:
    """Return the rows of the file as Excel reads them: in UTF-8, because of its first character."""
    assert response.status_code == 200
    return list(csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"))))


async def add_declined(site: PartnerSite, reason: str = "No.") -> str:
    run = await site.add_request(pat_request(account_name="Zürich Rück, “AG”"), at=AT)
    await site.record_email(run, EmailKind.ACTIVATION, at=AT + timedelta(seconds=2))
    decided_at = AT + timedelta(days=1)
    await site.record_decision(run, Decision(status=Status.DECLINED, at=decided_at, reason=reason))
    return run


async def test_file_has_what_the_list_shows(partner_site: PartnerSite) -> None:
    run = await add_declined(partner_site, reason="We know no such partner.\nSorry.")
    response = await partner_site.http.get("/requests.csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"].startswith("attachment; ")
    assert response.headers["cache-control"] == "no-store"
    assert response.content.startswith(b"\xef\xbb\xbf")
    assert rows(response) == [
        {
            "Account name": "Zürich Rück, “AG”",
            "Account domain": "acme.example",
            "Customer": "ada@acme.example",
            "Added users": "bo@acme.example; cy@acme.example",
            "Status": "Declined",
            "Needs attention": "",
            "Requested": "2026-09-10T14:05:30Z",
            "Deadline": "2026-12-09T14:05:30Z",
            "Decided": "2026-09-11T14:05:30Z",
            "Reason": "We know no such partner. Sorry.",
            "Account closed": "",
            "Reason for closing": "",
            "Last email": "Activation email",
            "Last email's status": "sent",
            "Last email's time": "2026-09-10T14:05:32Z",
            "Page": f"{partner_site.url}/requests/smart-account-acme.example?run={run}",
        }
    ]


async def test_link_on_the_page_keeps_the_filter(partner_site: PartnerSite) -> None:
    await add_declined(partner_site)
    for number in range(30):
        await partner_site.add_request(pat_request(f"c{number}.example"))
    page = await partner_site.http.get("/requests?status=pending&q=c1&page=9")
    assert 'href="/requests?status=pending&amp;q=c1"' in page.text
    page = await partner_site.http.get("/requests?status=pending&q=c1")
    assert 'href="/requests.csv?status=pending&amp;q=c1">Download as CSV<' in page.text
    assert "11 requests found" in visible_text(page)
    for path, number in {
        "/requests.csv?status=pending&q=c1": 11,
        "/requests.csv?status=declined": 1,
        "/requests.csv?status=closed": 0,
        "/requests.csv?status=none&page=2": 31,
        "/requests.csv?q=%00c2.EX%1b": 1,
    }.items():
        assert len(rows(await partner_site.http.get(path))) == number, path


async def test_partners_get_only_their_own_requests(partner_site: PartnerSite) -> None:
    await partner_site.add_request(pat_request())
    await partner_site.add_request(pat_request("kim.example"), owner=KIM.identity)
    await partner_site.add_request(pat_request("nobody.example"), owner=None)
    await partner_site.sign_in(KIM)
    for query in ("", "?q=acme", "?q=pat", "?owner=pat"):
        response = await partner_site.http.get(f"/requests.csv{query}")
        assert "acme" not in response.text
        assert "nobody" not in response.text
    [row] = rows(await partner_site.http.get("/requests.csv"))
    assert row["Account domain"] == "kim.example"
    assert not {"Requester", "Reported", "Contested"} & row.keys()
    await partner_site.sign_in(OPERATOR)
    found = rows(await partner_site.http.get("/requests.csv"))
    assert {row["Requester"] for row in found} == {"Pat Lee"}
    assert len(found) == 3


@pytest.mark.parametrize(
    ("typed", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (' "=1+1"', '\'"=1+1"'),
        ("\u200f=1+1", "'\u200f=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("\n\n=1+1\n-2", "'=1+1 -2"),
        # For Excel with a decimal comma, a semicolon ends the cell.
        ('a; =1+1;"=2;+3;b', "a;' =1+1;'\"=2;'+3;b"),
        ("5-6 = -1 @home", "5-6 = -1 @home"),
    ],
)
async def test_no_cell_is_a_formula(partner_site: PartnerSite, typed: str, cell: str) -> None:
    await add_declined(partner_site, reason=typed)
    [row] = rows(await partner_site.http.get("/requests.csv"))
    assert row["Reason"] == cell


async def test_every_cell_is_defused(partner_site: PartnerSite) -> None:
    request = pat_request(
        account_name="=name",
        customer_email="=ada@acme.example",
        user_emails=("bo@acme.example", "+cy@acme.example"),
        requester={"email": "-pat@partner.example", "name": "@Pat", "company": "+Partner"},
    )
    await partner_site.add_request(request)
    await partner_site.sign_in(OPERATOR)
    [row] = rows(await partner_site.http.get("/requests.csv"))
    assert not [value for value in row.values() if value[:1] in ("=", "+", "-", "@")]
    assert row["Added users"] == "bo@acme.example;' +cy@acme.example"


async def test_batches_hold_each_request_once(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All requests have the same time. Each query reads at most one batch."""
    runs = [await partner_site.add_request(pat_request(f"c{n}.example"), at=AT) for n in range(5)]
    read = store_listing._newest
    sizes: list[int] = []

    async def read_and_count(*query: Any) -> tuple[store_listing.Listed, ...]:
        batch = await read(*query)
        sizes.append(len(batch))
        return batch

    monkeypatch.setattr(store_listing, "_newest", read_and_count)
    monkeypatch.setattr(listing, "BATCH_SIZE", 2)
    found = rows(await partner_site.http.get("/requests.csv"))
    assert [row["Page"].partition("run=")[2] for row in found] == sorted(runs)
    assert sizes == [2, 2, 1]


async def test_outage_before_the_file_begins(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise Unavailable("no")

    monkeypatch.setattr(store_listing, "_newest", fail)
    response = await partner_site.http.get("/requests.csv")
    assert (response.status_code, "retry-after" in response.headers) == (503, True)
    assert "Please try again in a moment" in visible_text(response)


async def test_outage_in_the_middle_cuts_the_file_off(
    served_partner_site: PartnerSite,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A file that lacks requests must not look complete."""
    site = served_partner_site
    for number in range(3):
        await site.add_request(pat_request(f"c{number}.example"))
    read, calls = store_listing._newest, iter((False, True))

    async def fail_the_second_time(*query: Any) -> tuple[store_listing.Listed, ...]:
        if next(calls):
            raise Unavailable("The database does not respond.")
        return await read(*query)

    monkeypatch.setattr(store_listing, "_newest", fail_the_second_time)
    monkeypatch.setattr(listing, "BATCH_SIZE", 2)
    async with httpx.AsyncClient(base_url=site.url) as http:
        with caplog.at_level(logging.WARNING), pytest.raises(httpx.RemoteProtocolError):
            await http.get("/requests.csv")
    assert "a download of a list was cut off: The database does not respond." in caplog.messages
    assert not [record for record in caplog.records if record.exc_info]
