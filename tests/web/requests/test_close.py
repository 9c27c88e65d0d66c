"""Operators close accounts on the page of the request."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from smart_accounts.contract.actions import ActionMessage, ActionResult
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Decision
from smart_accounts.store.sessions import Partner
from smart_accounts.web.requests.labels import STATED
from tests.support.browser import OpenPage
from tests.support.page_content import visible_text
from tests.support.partner_site import ACME_PAGE, CLOSING, FORM, PartnerSite, pat_request
from tests.support.partners import KIM, OPERATOR, PAT

NOW = datetime.now(UTC)
REASON = CLOSING.reason


async def add_account(site: PartnerSite) -> str:
    """Store a request that Pat made and that was accepted two hours ago. Return its id."""
    run = await site.add_request(pat_request(), at=NOW - timedelta(days=3))
    accepted = Decision(status=Status.ACTIVE, at=NOW - timedelta(hours=2), by="ada@acme.example")
    await site.record_decision(run, accepted)
    return run


async def test_operator_closes_an_account(
    served_partner_site: PartnerSite, new_page: OpenPage
) -> None:
    site = served_partner_site
    run = await add_account(site)
    await site.sign_in(OPERATOR)
    async with new_page() as page:
        await page.goto(f"{site.url}{ACME_PAGE}")
        await page.get_by_text("Close the account").first.click()
        await expect(page.get_by_text("are told the reason")).to_be_visible()
        close = page.get_by_role("button", name="Close the account", exact=True)
        await close.click()
        await expect(page.locator("#close")).to_contain_text("The reason must not be empty.")
        await page.get_by_label("Reason").fill(REASON)
        await close.click()
        await expect(page).to_have_url(f"{site.url}{ACME_PAGE}?run={run}")
    assert site.temporal.actions == [("close", REASON, OPERATOR.subject, run)]


async def test_late_withdrawal_is_not_a_reason_to_close(partner_site: PartnerSite) -> None:
    await add_account(partner_site)
    await partner_site.sign_in(OPERATOR)
    page = (await partner_site.post(f"{ACME_PAGE}/withdraw", reason="Typo.")).text
    assert "Too late: the request is already active." in page
    assert 'href="#progress"' in page
    assert 'id="close-reason"' in page
    assert "Typo." not in page


@pytest.mark.parametrize("message", [ActionMessage.CLOSED, ActionMessage.CLOSE_RECEIVED])
async def test_page_says_whether_the_account_is_closed(
    partner_site: PartnerSite, message: ActionMessage
) -> None:
    await add_account(partner_site)
    await partner_site.sign_in(OPERATOR)
    partner_site.temporal.action_result = ActionResult(status=Status.ACTIVE, message=message)
    response = await partner_site.post(f"{ACME_PAGE}/close", reason=REASON)
    assert response.status_code == 303
    assert message in visible_text(await partner_site.http.get(ACME_PAGE))


@pytest.mark.parametrize("partner", [PAT, KIM], ids=["requester", "another partner"])
async def test_partner_cannot_close_an_account(partner_site: PartnerSite, partner: Partner) -> None:
    run = await add_account(partner_site)
    assert "Close the account" not in visible_text(await partner_site.http.get(ACME_PAGE))
    await partner_site.sign_in(partner)
    unknown = await partner_site.post("/requests/smart-account-unknown.example/close", reason="x")
    response = await partner_site.post(f"{ACME_PAGE}/close?run={run}", reason=REASON)
    assert (response.status_code, response.text) == (403, unknown.text)
    assert not partner_site.temporal.actions


async def test_closed_account_is_shown_as_closed(partner_site: PartnerSite) -> None:
    await partner_site.close_account(await add_account(partner_site), NOW)
    page = visible_text(await partner_site.http.get(ACME_PAGE))
    for text in (
        "Account closed",
        f"By an operator{STATED}.",
        REASON,
        "request a new Smart Account",
    ):
        assert text in page
    assert "opal" not in page
    await partner_site.sign_in(OPERATOR)
    page = visible_text(await partner_site.http.get(ACME_PAGE))
    assert f"By an operator, recorded as “opal”{STATED}." in page
    assert "Close the account" not in page
    response = await partner_site.http.get("/requests")
    assert "Account closed" in visible_text(response)
    assert '<span class="badge good">' not in response.text


@pytest.mark.parametrize(
    ("status", "is_listed"), [("", True), ("closed", True), ("active", False), ("pending", False)]
)
async def test_list_can_be_filtered_for_closed_accounts(
    partner_site: PartnerSite, status: str, is_listed: bool
) -> None:
    await partner_site.close_account(await add_account(partner_site), NOW)
    response = await partner_site.http.get(f"/requests?status={status}")
    assert ("Acme Networks" in visible_text(response)) is is_listed


async def test_domain_can_be_requested_again(partner_site: PartnerSite) -> None:
    run = await add_account(partner_site)
    taken = await partner_site.submit("/requests", **FORM)
    assert taken.status_code == 409
    assert f"?run={run}" in taken.text
    await partner_site.close_account(run, NOW)
    response = await partner_site.post("/requests", **FORM)
    assert response.status_code == 303
    assert len(partner_site.temporal.running) == 1
    again = await partner_site.submit("/requests", **FORM, form_id="another")
    assert again.status_code == 409
    assert f"?run={run}" not in again.text  # the closed account does not hold the domain


async def test_page_follows_the_emails_about_the_end(partner_site: PartnerSite) -> None:
    run = await add_account(partner_site)
    assert "live.js" not in (await partner_site.http.get(ACME_PAGE)).text
    await partner_site.close_account(run, NOW)
    assert "live.js" in (await partner_site.http.get(ACME_PAGE)).text
