"""The whole story against what ``make run`` starts: the partner in one browser, the customer in
another, the emails between them in the mailbox.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, StorageState, expect

from smart_accounts.contract.messages import Requester, SmartAccountRequest
from smart_accounts.local.configuration import ROOT
from smart_accounts.temporal.client import RequestClient
from tests.support.browser import OpenPage

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
        key = "Space" if role == "checkbox" else "Enter"
        await self._press(self.page.get_by_role(role, name=name, exact=True), key)

    async def opens(self, summary: str) -> None:
        await self._press(self.page.locator("summary", has_text=summary), "Enter")

    async def writes(self, label: str, text: str) -> None:
        target = self.page.get_by_label(label)
        if self.browser == "keyboard":
            await self._tab_to(target)
            await self.page.keyboard.type(text)
        else:
            await target.fill(text)

    async def _press(self, target: Locator, key: str) -> None:
        if self.browser == "keyboard":
            await self._tab_to(target)
            await self.page.keyboard.press(key)
        else:
            await target.click()

    async def _tab_to(self, target: Locator) -> None:
        await expect(target).to_be_visible()
        for _ in range(40):
            if await target.evaluate("each => each === document.activeElement"):
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"no way to {target} by keyboard")

    async def learns(self, account: str, status: str) -> None:
        """What the page says by itself or, without scripts, when it is looked at again."""
        if self.browser == "no-scripts":
            while await self.page.locator(".standing .badge").inner_text() != status:
                async with self.page.expect_event("load"):
                    await self.does("link", "Look again")
        await self.sees(account, status)

    async def asks_for_an_account(self, stack: Any) -> None:
        await self.page.goto(stack.url("WEB_PORT"))
        await self.does("link", "Request Smart Account")

    async def signs_in(self) -> None:
        await self.does("button", "Pat Lee")
        await self.sees("Request a Smart Account for Your Customer")

    async def fills_in(self, account: str, customer: str) -> None:
        await self.writes("Account name", account)
        await self.writes("Customer email", customer)
        await self.writes("Note to customer", "As agreed on the phone.")
        await self.writes("User emails", f"bo@{customer.partition('@')[2]}")

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
async def person(new_page: OpenPage) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as pages:

        async def comes(browser: str = "desk", **options: Any) -> Person:
            page = await pages.enter_async_context(new_page(**BROWSERS[browser], **options))
            # The local provider's pages load a style sheet from afar; tests stay on this machine.
            await page.route(
                lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort()
            )
            return Person(page, browser)

        yield comes


@pytest.fixture(scope="module")
async def session(stack: Any, chromium: Browser) -> StorageState:
    """Pat's cookies after one sign-in. The tests of the sign-in itself start without them."""
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(f"{stack.url('WEB_PORT')}/sign-in", wait_until="domcontentloaded")
    await page.get_by_role("button", name="Pat Lee", exact=True).click(no_wait_after=True)
    await page.wait_for_url(f"{stack.url('WEB_PORT')}/")
    state = await context.storage_state()
    await context.close()
    return state


@pytest.fixture
def pat(person: Callable[..., Any], session: StorageState) -> Callable[..., Any]:
    """Pat, signed in."""

    async def comes(browser: str) -> Person:
        signed_in: Person = await person(browser, storage_state=session)
        return signed_in

    return comes


@pytest.fixture(scope="module")
async def begin(stack: Any) -> Callable[..., Any]:
    """Begin a request of Pat's with a window that no form can ask for; answers its path."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{stack.ports['TEMPORAL_PORT']}")
        client = await RequestClient.connect()

    async def begun(account: str, customer: str, window: timedelta) -> str:
        started = await client.start(
            SmartAccountRequest(
                account_name=account,
                account_domain=customer.partition("@")[2],
                customer_email=customer,
                requester=Requester(
                    email="pat@partner.example", name="Pat Lee", company="Partner Ltd"
                ),
                acceptance_window=window,
            )
        )
        return f"/requests/{started.workflow_id}?run={started.request_id}"

    return begun


@pytest.fixture(scope="module", autouse=True)
async def lapsing(begin: Any) -> dict[str, str]:
    """By browser: begun with the first test of all, so that nobody waits for them later."""
    window = timedelta(seconds=15)
    return {
        browser: await begin("Quarry Works", f"ada@quarry-{browser}.example", window)
        for browser in ("phone", "no-scripts")
    }


@pytest.mark.parametrize("browser", BROWSERS)
async def test_accepted(stack: Any, person: Any, browser: str) -> None:
    customer = f"ada@harbour-{browser}.example"
    pat, ada = await person(browser), await person(browser)
    await pat.asks_for_an_account(stack)
    await pat.signs_in()
    await pat.fills_in("Harbour Logistics", customer)
    await pat.picture("form")
    await pat.sends("Harbour Logistics")
    link = await stack.link(customer)
    await pat.picture("request")
    await ada.accepts(link)
    await ada.picture("activated")
    await pat.learns("Harbour Logistics", "Active")
    await pat.picture("active")


@pytest.mark.parametrize("browser", ["phone", "keyboard", "no-scripts"])
async def test_declined(stack: Any, person: Any, pat: Any, browser: str) -> None:
    customer = f"eve@meadow-{browser}.example"
    pat, eve = await pat(browser), await person(browser)
    await pat.asks_for_an_account(stack)
    await pat.fills_in("Meadow Farms", customer)
    await pat.sends("Meadow Farms")
    await eve.page.goto(await stack.link(customer))
    await eve.writes("Reason", "We have another supplier.")
    await eve.does("button", "Decline")
    await eve.sees("You declined the Smart Account")
    await eve.picture("customer-declined")
    await pat.learns("Meadow Farms", "Declined")
    await expect(pat.page.get_by_role("blockquote")).to_have_text("We have another supplier.")
    await pat.picture("declined")


@pytest.mark.parametrize("browser", ["phone", "keyboard", "no-scripts"])
async def test_resent(stack: Any, person: Any, pat: Any, begin: Any, browser: str) -> None:
    customer = f"ada@vineyard-{browser}.example"
    # The shorter the window, the sooner it may be resent: this one after 0.6 seconds.
    path = await begin("Vineyard Estates", customer, timedelta(seconds=60))
    pat, ada = await pat(browser), await person(browser)
    old = await stack.link(customer)
    await ada.page.goto(old)
    await ada.sees("Accept a Smart Account")
    await pat.page.goto(stack.url("WEB_PORT") + path)
    await pat.sees("Vineyard Estates", "Pending")
    await pat.opens("Send the activation email again")
    await pat.picture("resend")
    await pat.does("button", "Send it again")
    await expect(pat.page.get_by_role("status").first).to_contain_text("is on its way")
    await pat.picture("resent")
    new = await stack.link(customer, after=old)
    await ada.does("checkbox")
    await ada.does("button", "Accept the account")  # on the page that the old link led to
    await ada.sees("There is a newer link")
    await ada.picture("customer-old-link")
    await ada.accepts(new)
    await pat.learns("Vineyard Estates", "Active")


async def test_another_approver(stack: Any, person: Any, pat: Any) -> None:
    pat, customer = await pat("phone"), await person("phone")
    await pat.asks_for_an_account(stack)
    await pat.fills_in("Orchard Foods", "ada@orchard.example")
    await pat.sends("Orchard Foods")
    old = await stack.link("ada@orchard.example")
    await pat.opens("Replace the approver")
    await pat.writes("New approver", "cy@orchard.example")
    await pat.does("button", "Replace the approver")
    await expect(pat.page.get_by_text("The old link is dead.")).to_be_visible()
    new = await stack.link("cy@orchard.example")
    await pat.opens("Send the activation")
    await pat.does("button", "Send it again")
    await expect(pat.page.get_by_role("alert")).to_contain_text("has just been sent; try again at")
    await customer.page.goto(old)
    await customer.sees("There is a newer link")
    await customer.accepts(new)
    await pat.learns("Orchard Foods", "Active")


@pytest.mark.parametrize("browser", ["phone", "no-scripts"])
async def test_lapsed(stack: Any, person: Any, pat: Any, lapsing: Any, browser: str) -> None:
    pat, ada = await pat(browser), await person(browser)
    await pat.page.goto(stack.url("WEB_PORT") + lapsing[browser])
    await pat.learns("Quarry Works", "Lapsed")
    await pat.picture("lapsed")
    await ada.page.goto(await stack.link(f"ada@quarry-{browser}.example"))
    await ada.sees("This request has lapsed")
    await ada.picture("customer-lapsed")
    await pat.does("link", "request a new Smart Account")
    await pat.sees("Request a Smart Account for Your Customer")
