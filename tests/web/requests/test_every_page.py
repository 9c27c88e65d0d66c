"""How each page for partners looks in a real browser."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Page, expect

from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    EmailStatus,
    RequestStatus,
    Status,
)
from smart_accounts.contract.steps import Addressee, Decision
from smart_accounts.local.previews import RIGHT_TO_LEFT
from smart_accounts.store.audit import Action, Actor, Agreement, Origin, Role
from smart_accounts.web.activation import AGREEMENT
from smart_accounts.web.requests import templating
from tests.support.browser import OpenPage
from tests.support.form_scenes import FORM_PAGES, Scene, press
from tests.support.looks import look, remove_refresh
from tests.support.partner_site import PartnerSite, pat_request
from tests.support.partners import DANA, KIM, OPERATOR, PAT
from tests.support.read_model import status_in
from tests.web.requests.test_erased import erased_request

NOW = datetime.now(UTC)
OTHER_DOMAIN = "The customer's address is not at the account's domain."
COMPANIES = [
    "Harbour Logistics",
    "Meadow Farms",
    "Zürich Rück",
    "Northwind Traders",
    "Blue Ridge Dental",
    "Contoso",
    "Fabrikam Steel",
    "Lucerne Publishing",
    "Tailspin Toys",
    "Wide World Importers",
]
CLOSED_TO = {
    Addressee.CUSTOMER: "ada@acme.example",
    Addressee.REQUESTER: "pat@partner.example",
}
FINAL_STATUSES = [
    Status.ACTIVE,
    Status.DECLINED,
    Status.LAPSED,
    Status.WITHDRAWN,
    Status.UNDELIVERABLE,
]


async def empty_list(page: Page, site: PartnerSite) -> None:
    await page.goto(f"{site.url}/requests")


async def add_many_requests(site: PartnerSite) -> None:
    for number in range(31):
        at = NOW - timedelta(days=3 * number, hours=number)
        domain = f"company-{number}.example"
        name = COMPANIES[number % len(COMPANIES)]
        hints = (OTHER_DOMAIN,) if number == 2 else ()
        request = pat_request(domain, account_name=name)
        run = await site.add_request(request, at=at, needs_attention=hints)
        state = EmailState.BOUNCED if number == 1 else EmailState.SENT
        await site.record_email(run, EmailKind.ACTIVATION, state, at=at, recipient=f"ada@{domain}")
        if number > 3 and number % 2:
            decision = Decision(
                status=FINAL_STATUSES[number % 5], at=at + timedelta(days=2), by="customer"
            )
            await site.record_decision(run, decision)


async def request_list(page: Page, site: PartnerSite) -> None:
    await add_many_requests(site)
    await page.goto(f"{site.url}/requests")


async def all_requests(page: Page, site: PartnerSite) -> None:
    await add_many_requests(site)
    await site.sign_in(OPERATOR)
    await page.goto(f"{site.url}/requests?page=2")


async def nothing_found(page: Page, site: PartnerSite) -> None:
    await site.add_request(pat_request())
    await page.goto(f"{site.url}/requests?q=zzz&status=active")


async def add_old_request(site: PartnerSite) -> str:
    at = NOW - timedelta(days=31, hours=2)
    run = await site.add_request(pat_request(), at=at, needs_attention=(OTHER_DOMAIN,))
    soon = at + timedelta(seconds=4)
    await site.record_email(run, EmailKind.ACTIVATION, at=soon)
    await site.record_email(
        run,
        EmailKind.REQUEST_RECEIVED,
        at=soon,
        to=Addressee.REQUESTER,
        recipient="pat@partner.example",
    )
    await site.record_email(
        run,
        EmailKind.REMINDER,
        EmailState.BOUNCED,
        at=at + timedelta(days=30),
        reply="552 5.2.2 <ada@acme.example>: mailbox full",
    )
    return run


async def pending(page: Page, site: PartnerSite) -> None:
    run = await add_old_request(site)
    stored = await status_in(site.store, run)
    new = EmailStatus(
        kind=EmailKind.ACTIVATION, recipient="ada@acme.example", state=EmailState.QUEUED, at=NOW
    )
    site.temporal.live_status = RequestStatus.model_validate(
        stored.model_dump()
        | {
            "emails": (*stored.emails, new),
            "next_step": "Waits for the customer's answer until 2027-01-24 11:00 UTC."
            " Next reminder 2026-12-24 11:00 UTC.",
        }
    )
    await page.goto(f"{site.url}/requests/smart-account-acme.example?run={run}")
    await page.get_by_text("Replace the approver").first.click()


async def operator_page(page: Page, site: PartnerSite) -> None:
    run = await add_old_request(site)
    browser = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0"
    origin = Origin(client_address="2001:db8:85a3:8d3:1319:8a2e:370:7348", user_agent=browser)
    actor = Actor(role=Role.REQUESTER, email=PAT.email, name=PAT.name, identity=PAT.identity)
    for action in (Action.SEND, Action.RESEND):
        await site.store.audit.record(action, actor, origin, run)
    customer = Actor(role=Role.CUSTOMER, email="ada@acme.example")
    agreed = AGREEMENT.format(account_name="Acme Networks", account_domain="acme.example")
    agreement = Agreement(link_ordinal=2, text=agreed)
    await site.store.audit.record(Action.ACCEPT, customer, origin, run, agreement)
    await site.sign_in(OPERATOR)
    await page.goto(f"{site.url}/requests/smart-account-acme.example")


async def action_with_error(page: Page, site: PartnerSite) -> None:
    await add_old_request(site)
    await page.goto(f"{site.url}/requests/smart-account-acme.example")
    await page.get_by_text("Replace the approver").first.click()
    await page.get_by_label("New approver").fill("ada@")
    await press(page, "Replace the approver")


async def action_done(page: Page, site: PartnerSite) -> None:
    await add_old_request(site)
    await page.goto(f"{site.url}/requests/smart-account-acme.example")
    await page.get_by_text("Send the activation email again").click()
    await press(page, "Send it again")


async def active(page: Page, site: PartnerSite) -> None:
    run = await add_old_request(site)
    at = NOW - timedelta(minutes=20)
    await site.record_decision(run, Decision(status=Status.ACTIVE, at=at, by="ada@acme.example"))
    soon = at + timedelta(seconds=3)
    await site.record_email(run, EmailKind.WELCOME, at=soon)
    for number, recipient in enumerate(("bo@acme.example", "cy@acme.example"), 1):
        await site.record_email(
            run,
            EmailKind.ACCESS_GRANTED,
            at=soon,
            to=Addressee.ADDED_USER,
            number=number,
            recipient=recipient,
        )
    await site.record_email(run, EmailKind.ACTIVATED, at=soon, to=Addressee.REQUESTER)
    await page.goto(f"{site.url}/requests/smart-account-acme.example")


async def declined(page: Page, site: PartnerSite) -> None:
    run = await add_old_request(site)
    decision = Decision(
        status=Status.DECLINED, at=NOW - timedelta(days=1), by="customer", reason="Not us.\nSorry."
    )
    await site.record_decision(run, decision)
    await page.goto(f"{site.url}/requests/smart-account-acme.example")


async def closing(page: Page, site: PartnerSite) -> None:
    await site.sign_in(OPERATOR)
    await active(page, site)
    await page.get_by_text("Close the account").first.click()
    await press(page, "Close the account")


async def closed(page: Page, site: PartnerSite) -> None:
    await site.sign_in(OPERATOR)
    await active(page, site)
    run = (await site.store.listing.page(owner=None)).items[0].request.id
    at = NOW - timedelta(minutes=9)
    await site.close_account(run, at)
    for to, recipient in CLOSED_TO.items():
        await site.record_email(run, EmailKind.CLOSED, at=at, to=to, recipient=recipient)
    await page.reload()


async def in_review(page: Page, site: PartnerSite) -> None:
    await site.add_request(pat_request(), needs_attention=(OTHER_DOMAIN,), is_approved=False)
    await page.goto(f"{site.url}/requests/smart-account-acme.example")


async def operators_review(page: Page, site: PartnerSite) -> None:
    await site.add_request(pat_request(), needs_attention=(OTHER_DOMAIN,), is_approved=False)
    await site.store.requests.note_contested("acme.example", KIM.identity, NOW)
    await site.sign_in(OPERATOR)
    await page.goto(f"{site.url}/requests/smart-account-acme.example")
    await page.get_by_text("Reject the request").first.click()
    await press(page, "Reject the request")


async def review_queue(page: Page, site: PartnerSite) -> None:
    await add_many_requests(site)
    for number in range(2):
        await site.add_request(
            pat_request(f"odd-{number}.example"),
            needs_attention=(OTHER_DOMAIN,),
            is_approved=False,
        )
    await site.sign_in(OPERATOR)
    await page.goto(f"{site.url}/requests")


async def complete_in_review(page: Page, site: PartnerSite) -> None:
    run = await site.add_request(pat_request(), needs_attention=(OTHER_DOMAIN,), is_approved=False)
    await page.goto(f"{site.url}/requests/smart-account-acme.example/complete?run={run}")


async def right_to_left_request(page: Page, site: PartnerSite) -> None:
    """The list and the page of a withdrawn request in Hebrew and Arabic, as operators see them."""
    request = pat_request(
        account_name=RIGHT_TO_LEFT.account_name,
        note_to_customer=RIGHT_TO_LEFT.note_to_customer,
        requester=RIGHT_TO_LEFT.requester,
    )
    run = await site.add_request(request, owner=DANA.identity)
    actor = Actor(role=Role.REQUESTER, email=DANA.email, name=DANA.name, identity=DANA.identity)
    origin = Origin(client_address="192.0.2.1", user_agent="Firefox")
    await site.store.audit.record(Action.SEND, actor, origin, run)
    reason = RIGHT_TO_LEFT.note_to_customer
    decision = Decision(status=Status.WITHDRAWN, at=NOW, by="requester", reason=reason)
    await site.record_decision(run, decision)
    await site.sign_in(OPERATOR)
    await page.goto(f"{site.url}/requests")
    await look(page, "26-right-to-left-list")
    await page.get_by_role("link", name=RIGHT_TO_LEFT.account_name).click()
    # The quotation's direction is that of its first letter, and so is the direction of each line.
    await expect(page.get_by_role("blockquote")).to_have_css("direction", "rtl")


PAGES: dict[str, Scene] = FORM_PAGES | {
    "10-empty-list": empty_list,
    "11-list": request_list,
    "12-all-requests": all_requests,
    "13-nothing-found": nothing_found,
    "14-pending": pending,
    "15-operator": operator_page,
    "16-action-with-error": action_with_error,
    "17-action-done": action_done,
    "18-active": active,
    "19-declined": declined,
    "20-in-review": in_review,
    "21-operators-review": operators_review,
    "22-review-queue": review_queue,
    "23-complete-in-review": complete_in_review,
    "24-closing": closing,
    "25-closed": closed,
    "26-right-to-left-request": right_to_left_request,
    "27-erased": erased_request,
}


@pytest.mark.parametrize("name", PAGES)
async def test_page_is_accessible_and_small(
    name: str,
    served_partner_site: PartnerSite,
    page_to_look_at: OpenPage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(templating, "REFRESH_SECONDS", 3600)  # routes see no redirect
    async with page_to_look_at() as page:
        await page.route("**/*", remove_refresh)
        await PAGES[name](page, served_partner_site)
        await look(page, name)
