"""The whole story against what ``make run`` starts: the partner in one browser, the customer in
another, the mails between them in the mailbox.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from smart_accounts.client import RequestClient
from smart_accounts.local.plan import ROOT
from smart_accounts.messages import Requester, SmartAccountRequest

DESK = {"viewport": {"width": 1280, "height": 800}}
BROWSERS: dict[str, dict[str, Any]] = {
    "desk": DESK,
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "keyboard": DESK,
    "no-scripts": DESK | {"java_script_enabled": False},
}


@dataclass(frozen=True)
class Person:
    """Somebody at a browser, who may have nothing but its keyboard."""

    page: Page
    browser: str

    async def sees(self, heading: str, status: str | None = None) -> None:
        await expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)
        if status:
            await expect(self.page.locator(".standing .badge")).to_have_text(status)
        width = BROWSERS[self.browser]["viewport"]["width"]
        assert await self.page.evaluate("document.documentElement.scrollWidth") <= width

    async def picture(self, name: str) -> None:
        await self.page.evaluate("scrollTo(0, 0)")
        await self.page.screenshot(path=ROOT / f"test-output/story-{self.browser}-{name}.png")

    async def does(self, role: Any, name: str | None = None) -> None:
        target = self.page.get_by_role(role, name=name, exact=True)
        if self.browser == "keyboard":
            await self._tab_to(target)
            await self.page.keyboard.press("Space" if role == "checkbox" else "Enter")
        else:
            await target.click()

    async def writes(self, label: str, text: str) -> None:
        target = self.page.get_by_label(label)
        if self.browser == "keyboard":
            await self._tab_to(target)
            await self.page.keyboard.type(text)
        else:
            await target.fill(text)

    async def _tab_to(self, target: Locator) -> None:
        await expect(target).to_be_visible()
        for _ in range(40):
            if await target.evaluate("each => each === document.activeElement"):
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"no way to {target} by keyboard")

    async def signs_in(self, stack: Any) -> None:
        await self.page.goto(stack.url("WEB_PORT"))
        await self.does("link", "Request Smart Account")
        await self.does("button", "Pat Lee")
        await self.sees("Request a Smart Account for Your Customer")

    async def fills_in(self, account: str, customer: str) -> None:
        await self.writes("Account name", account)
        await self.writes("Customer e-mail", customer)
        await self.writes("Note to customer", "As agreed on the phone.")
        await self.writes("User e-mails", f"bo@{customer.partition('@')[2]}")

    async def sends(self, account: str) -> None:
        await self.does("button", "Review Request")
        await self.sees("Review Request")
        await self.does("button", "Send Request")
        await self.sees("Smart Account Request Complete")
        await self.does("link", "Follow the request")
        await self.sees(account, "Pending")

    async def accepts(self, link: str) -> None:
        await self.page.goto(link)
        await self.sees("Accept a Smart Account")
        await self.picture("customer")
        await self.does("checkbox")
        await self.does("button", "Accept the account")
        await self.sees("Your Smart Account is activated")


@pytest.fixture
def person(new_page: Any) -> Callable[..., Any]:
    async def comes(browser: str = "desk") -> Person:
        return Person(await new_page(**BROWSERS[browser]), browser)

    return comes


@pytest.mark.parametrize("browser", BROWSERS)
async def test_accepted(stack: Any, person: Any, browser: str) -> None:
    domain = f"harbour{list(BROWSERS).index(browser) or ''}.example"
    pat, ada = await person(browser), await person(browser)
    await pat.signs_in(stack)
    await pat.fills_in("Harbour Logistics", f"ada@{domain}")
    await pat.picture("form")
    await pat.sends("Harbour Logistics")
    link = await stack.link(f"ada@{domain}")
    await pat.picture("request")
    await ada.accepts(link)
    if browser == "no-scripts":
        await pat.does("link", "Look again")
    await pat.sees("Harbour Logistics", "Active")
    await pat.picture("active")


async def test_declined(stack: Any, person: Any) -> None:
    pat, eve = await person(), await person()
    await pat.signs_in(stack)
    await pat.fills_in("Meadow Farms", "eve@meadow.example")
    await pat.sends("Meadow Farms")
    await eve.page.goto(await stack.link("eve@meadow.example"))
    await eve.writes("Reason", "We have another supplier.")
    await eve.does("button", "Decline")
    await eve.sees("You declined the Smart Account")
    await pat.sees("Meadow Farms", "Declined")
    await expect(pat.page.get_by_role("blockquote")).to_have_text("We have another supplier.")


async def test_another_approver(stack: Any, person: Any) -> None:
    pat, customer = await person("phone"), await person("phone")
    await pat.signs_in(stack)
    await pat.fills_in("Orchard Foods", "ada@orchard.example")
    await pat.sends("Orchard Foods")
    old = await stack.link("ada@orchard.example")
    await pat.page.locator("summary", has_text="Replace the approver").click()
    await pat.writes("New approver", "cy@orchard.example")
    await pat.does("button", "Replace the approver")
    await expect(pat.page.get_by_text("The old link is dead.")).to_be_visible()
    new = await stack.link("cy@orchard.example")
    await pat.page.locator("summary", has_text="Send the activation").click()
    await pat.does("button", "Send it again")
    await expect(pat.page.get_by_role("alert")).to_contain_text("has just been sent; try again at")
    await customer.page.goto(old)
    await customer.sees("There is a newer link")
    await customer.accepts(new)
    await pat.sees("Orchard Foods", "Active")


async def test_lapsed(stack: Any, person: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{stack.ports['TEMPORAL_PORT']}")
    client = await RequestClient.connect()
    started = await client.start(
        SmartAccountRequest(
            account_name="Quarry Works",
            account_domain="quarry.example",
            customer_email="ada@quarry.example",
            requester=Requester(email="pat@partner.example", name="Pat Lee", company="Partner Ltd"),
            acceptance_window=timedelta(seconds=8),  # which no form can ask for
        )
    )
    pat, ada = await person(), await person()
    await pat.signs_in(stack)
    path = f"/requests/{started.workflow_id}?run={started.request_id}"
    await pat.page.goto(stack.url("WEB_PORT") + path)
    await pat.sees("Quarry Works", "Lapsed")
    await ada.page.goto(await stack.link("ada@quarry.example"))
    await ada.sees("This request has lapsed")
