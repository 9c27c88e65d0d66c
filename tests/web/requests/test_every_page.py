"""Each of the partner's pages, looked at in a real browser."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Page

from smart_accounts.contract.messages import (
    Addressee,
    EmailKind,
    EmailState,
    EmailStatus,
    RequestStatus,
    Status,
)
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import Unavailable
from smart_accounts.web.requests import create
from tests.support.looks import look, stays
from tests.support.read_model import status_in

NOW = datetime.now(UTC)
COMPANIES = [
    *("Harbour Logistics", "Meadow Farms", "Zürich Rück", "Northwind Traders", "Blue Ridge Dental"),
    *("Contoso", "Fabrikam Steel", "Lucerne Publishing", "Tailspin Toys", "Wide World Importers"),
]
ENDS = [Status.ACTIVE, Status.DECLINED, Status.LAPSED, Status.WITHDRAWN, Status.UNDELIVERABLE]


async def fill(page: Page, desk: Any, **values: str) -> None:
    await page.goto(f"{desk.url}/requests/new")
    defaults = {
        "Account name": "Acme Networks",
        "Customer email": "ada@acme.example",
        "Note to customer": "As agreed on the phone.\nPlease answer soon.",
        "User emails": "bo@acme.example, cy@acme.example; BO@acme.example",
        "Note to added users": "Welcome aboard.",
    }
    for label, value in (defaults | values).items():
        await page.get_by_label(label).fill(value)


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def errors(page: Page, desk: Any, _: Any) -> None:
    await fill(page, desk, **{"Account name": "<b>", "User emails": "bo@acme.example cy@ dee"})
    await press(page, "Review Request")


async def review(page: Page, desk: Any, _: Any) -> None:
    await fill(page, desk)
    await press(page, "Review Request")


async def odd_review(page: Page, desk: Any, _: Any) -> None:
    await fill(page, desk, **{"Account domain": "other.example", "User emails": ""})
    await press(page, "Review Request")


async def sent(page: Page, desk: Any, _: Any) -> None:
    await review(page, desk, _)
    await press(page, "Send Request")


async def complete(page: Page, desk: Any, _: Any) -> None:
    await sent(page, desk, _)
    await desk.work()
    await page.reload()


async def refused(page: Page, desk: Any, wanted: Any) -> None:
    await desk.temporal.start(wanted(), key="somebody else's")
    await desk.open(wanted())
    await sent(page, desk, wanted)


async def outage(page: Page, desk: Any, wanted: Any) -> None:
    await review(page, desk, wanted)
    desk.temporal.fails = Unavailable("no")
    await press(page, "Send Request")


async def empty_list(page: Page, desk: Any, _: Any) -> None:
    await page.goto(f"{desk.url}/requests")


async def many(desk: Any, wanted: Any) -> None:
    for number in range(31):
        at = NOW - timedelta(days=3 * number, hours=number)
        domain = f"company-{number}.example"
        name = COMPANIES[number % len(COMPANIES)]
        run = await desk.open(
            wanted(domain, account_name=name),
            at=at,
            needs_attention=("The customer's address is not of the account's domain.",)
            if number == 2
            else (),
        )
        state = EmailState.BOUNCED if number == 1 else EmailState.SENT
        await desk.mailed(run, EmailKind.ACTIVATION, state, at=at, recipient=f"ada@{domain}")
        if number > 3 and number % 2:
            decision = Decision(status=ENDS[number % 5], at=at + timedelta(days=2), by="customer")
            await desk.decide(run, decision)


async def a_list(page: Page, desk: Any, wanted: Any) -> None:
    await many(desk, wanted)
    await page.goto(f"{desk.url}/requests")


async def all_requests(page: Page, desk: Any, wanted: Any) -> None:
    await many(desk, wanted)
    desk.sign_in(desk.operator)
    await page.goto(f"{desk.url}/requests?page=2")


async def nothing_found(page: Page, desk: Any, wanted: Any) -> None:
    await desk.open(wanted())
    await page.goto(f"{desk.url}/requests?q=zzz&status=active")


async def some_days(desk: Any, wanted: Any) -> str:
    at = NOW - timedelta(days=31, hours=2)
    odd = ("The customer's address is not of the account's domain.",)
    run: str = await desk.open(wanted(), at=at, needs_attention=odd)
    soon = at + timedelta(seconds=4)
    pat = {"to": Addressee.REQUESTER, "recipient": "pat@partner.example"}
    await desk.mailed(run, EmailKind.ACTIVATION, at=soon)
    await desk.mailed(run, EmailKind.REQUEST_RECEIVED, at=soon, **pat)
    await desk.mailed(
        run,
        EmailKind.REMINDER,
        EmailState.BOUNCED,
        at=at + timedelta(days=30),
        answer="552 5.2.2 <ada@acme.example>: mailbox full",
    )
    return run


async def pending(page: Page, desk: Any, wanted: Any) -> None:
    run = await some_days(desk, wanted)
    stored = await status_in(desk.store, run)
    new = EmailStatus(
        kind=EmailKind.ACTIVATION, recipient="ada@acme.example", state=EmailState.QUEUED, at=NOW
    )
    desk.temporal.live = RequestStatus.model_validate(
        stored.model_dump()
        | {
            "emails": (*stored.emails, new),
            "next_step": "Waits for the customer's answer until 2027-01-24 11:00 UTC."
            " Next reminder 2026-12-24 11:00 UTC.",
        }
    )
    await page.goto(f"{desk.url}/requests/smart-account-acme.example?run={run}")
    await page.get_by_text("Replace the approver").first.click()


async def for_operators(page: Page, desk: Any, wanted: Any) -> None:
    await some_days(desk, wanted)
    desk.sign_in(desk.operator)
    await page.goto(f"{desk.url}/requests/smart-account-acme.example")


async def action_refused(page: Page, desk: Any, wanted: Any) -> None:
    await some_days(desk, wanted)
    await page.goto(f"{desk.url}/requests/smart-account-acme.example")
    await page.get_by_text("Replace the approver").first.click()
    await page.get_by_label("New approver").fill("ada@")
    await press(page, "Replace the approver")


async def action_done(page: Page, desk: Any, wanted: Any) -> None:
    await some_days(desk, wanted)
    await page.goto(f"{desk.url}/requests/smart-account-acme.example")
    await page.get_by_text("Send the activation email again").click()
    await press(page, "Send it again")


async def active(page: Page, desk: Any, wanted: Any) -> None:
    run = await some_days(desk, wanted)
    at = NOW - timedelta(minutes=20)
    await desk.decide(run, Decision(status=Status.ACTIVE, at=at, by="ada@acme.example"))
    soon = at + timedelta(seconds=3)
    await desk.mailed(run, EmailKind.WELCOME, at=soon)
    for number, who in enumerate(("bo@acme.example", "cy@acme.example"), 1):
        to = {"to": Addressee.ADDED_USER, "number": number, "recipient": who}
        await desk.mailed(run, EmailKind.ACCESS_GRANTED, at=soon, **to)
    await desk.mailed(run, EmailKind.ACTIVATED, at=soon, to=Addressee.REQUESTER)
    await page.goto(f"{desk.url}/requests/smart-account-acme.example")


async def declined(page: Page, desk: Any, wanted: Any) -> None:
    run = await some_days(desk, wanted)
    decision = Decision(
        status=Status.DECLINED, at=NOW - timedelta(days=1), by="customer", reason="Not us.\nSorry."
    )
    await desk.decide(run, decision)
    await page.goto(f"{desk.url}/requests/smart-account-acme.example")


async def start(page: Page, desk: Any, _: Any) -> None:
    await page.goto(desk.url)


async def new(page: Page, desk: Any, _: Any) -> None:
    await page.goto(f"{desk.url}/requests/new")


PAGES: dict[str, Callable[[Page, Any, Any], Awaitable[None]]] = {
    "01-start": start,
    "02-new": new,
    "03-errors": errors,
    "04-review": review,
    "05-odd-review": odd_review,
    "06-starting": sent,
    "07-complete": complete,
    "08-refused": refused,
    "09-outage": outage,
    "10-empty-list": empty_list,
    "11-list": a_list,
    "12-all-requests": all_requests,
    "13-nothing-found": nothing_found,
    "14-pending": pending,
    "15-operator": for_operators,
    "16-action-refused": action_refused,
    "17-action-done": action_done,
    "18-active": active,
    "19-declined": declined,
}


@pytest.mark.parametrize("name", PAGES)
async def test_the_page_is_accessible_small_and_all_ours(
    name: str, served_desk: Any, new_page: Any, wanted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create, "REFRESH_SECONDS", 3600)  # no route sees where a redirect leads
    async with new_page() as page:
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else 0)
        await page.route("**/*", stays)
        await PAGES[name](page, served_desk, wanted)
        await look(page, name)
        # The browser calls every answer an error that is none of ours: what was wanted is above.
        assert [each for each in problems if "status of" not in each] == []
