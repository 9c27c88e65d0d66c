"""Who may see the pages for partners and send their forms."""

from typing import Any

import pytest
from sqlalchemy import event

from tests.support.page_content import visible_text
from tests.support.partner_site import ACME_PAGE, FORM, PartnerSite, pat_request
from tests.support.partners import KIM, OPERATOR, PAT


@pytest.mark.parametrize(
    "path", ["/requests", "/requests.csv", "/requests/new", ACME_PAGE, f"{ACME_PAGE}/events"]
)
async def test_pages_need_a_sign_in(partner_site: PartnerSite, path: str) -> None:
    partner_site.sign_out()
    response = await partner_site.http.get(path)
    assert response.status_code == 303
    assert response.headers["location"].startswith("/sign-in?next=")


@pytest.mark.parametrize(
    "path",
    [
        "/requests/new",
        "/requests/review",
        "/requests",
        f"{ACME_PAGE}/resend",
        f"{ACME_PAGE}/replace-approver",
        f"{ACME_PAGE}/withdraw",
        f"{ACME_PAGE}/close",
    ],
)
async def test_form_without_the_csrf_token_changes_nothing(
    partner_site: PartnerSite, path: str
) -> None:
    await partner_site.add_request(pat_request())
    for form in (FORM, FORM | {"csrf": "guessed"}):
        assert (await partner_site.http.post(path, data=form)).status_code == 403
    assert not partner_site.temporal.running
    assert not partner_site.temporal.actions


async def test_start_page_needs_no_sign_in(partner_site: PartnerSite) -> None:
    partner_site.sign_out()
    response = await partner_site.http.get("/")
    assert response.status_code == 200
    assert 'href="/requests/new">Request Smart Account<' in response.text


@pytest.mark.parametrize("is_stored", [False, True])
async def test_another_partners_request_looks_like_an_unknown_one(
    partner_site: PartnerSite, is_stored: bool
) -> None:
    run = (await partner_site.temporal.start(pat_request(), key="a-key")).request_id
    if is_stored:
        await partner_site.store_running_requests()
    unknown = (await partner_site.http.get("/requests/smart-account-unknown.example")).text
    await partner_site.sign_in(KIM)
    for path in (
        ACME_PAGE,
        f"{ACME_PAGE}?run={run}",
        f"{ACME_PAGE}/events",
        f"{ACME_PAGE}/complete?run={run}",
    ):
        response = await partner_site.http.get(path)
        assert (response.status_code, response.text) == (404, unknown)
    for action in ("resend", "replace-approver", "withdraw"):
        form = {"customer_email": "eve@acme.example"}
        assert (
            await partner_site.post(f"{ACME_PAGE}/{action}?run={run}", **form)
        ).status_code == 404
    assert not partner_site.temporal.actions
    assert "Acme" not in (await partner_site.http.get("/requests")).text


@pytest.mark.parametrize("is_stored", [False, True])
async def test_another_partners_request_takes_the_same_work_as_an_unknown_one(
    partner_site: PartnerSite, is_stored: bool
) -> None:
    await partner_site.temporal.start(pat_request(), key="a-key")
    if is_stored:
        await partner_site.store_running_requests()
    await partner_site.sign_in(KIM)
    statements: list[str] = []

    @event.listens_for(partner_site.store.engine.sync_engine, "before_cursor_execute")
    def note(*call: Any) -> None:
        statements.append(call[2])

    await partner_site.http.get("/requests/smart-account-unknown.example")
    of_unknown = statements.copy()
    statements.clear()
    await partner_site.http.get(ACME_PAGE)
    assert of_unknown == statements != []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_reading_changes_nothing_and_is_not_cached(
    partner_site: PartnerSite, method: str
) -> None:
    run = await partner_site.add_request(pat_request())
    before = await partner_site.store.listing.page(owner=None)
    for path in (
        "/requests",
        "/requests.csv",
        "/requests/new?draft=new",
        ACME_PAGE,
        f"{ACME_PAGE}/complete?run={run}",
    ):
        response = await partner_site.http.request(method, path)
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    for action in ("resend", "replace-approver", "withdraw", "close"):
        assert (await partner_site.http.request(method, f"{ACME_PAGE}/{action}")).status_code == 405
    assert await partner_site.store.listing.page(owner=None) == before
    assert not partner_site.temporal.running
    assert not partner_site.temporal.actions


async def test_operator_sees_all_requests_with_links_to_temporal(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    await partner_site.sign_in(OPERATOR)
    assert "Pat Lee" in visible_text(await partner_site.http.get("/requests"))
    link = f"https://temporal.example/namespaces/ours/workflows/smart-account-acme.example/{run}/"
    assert link in (await partner_site.http.get(ACME_PAGE)).text
    await partner_site.sign_in(PAT)
    assert "temporal.example" not in (await partner_site.http.get(ACME_PAGE)).text
