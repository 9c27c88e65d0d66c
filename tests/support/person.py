"""People at their browsers, in the tests of the local stack."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from playwright.async_api import Locator, Page, expect

from tests.support.local_stack import RunningStack
from tests.support.looks import screenshot

DESK = {"viewport": {"width": 1280, "height": 800}}
BROWSERS: dict[str, dict[str, Any]] = {
    "desk": DESK,
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "keyboard": DESK,
    "no-scripts": DESK | {"java_script_enabled": False},
}


@dataclass(frozen=True)
class Person:
    """A person at a browser. In the browser ``keyboard`` they use only the keyboard."""

    page: Page
    browser: str

    async def sees(self, heading: str, status: str | None = None) -> None:
        """Check the heading, the status, and that the page does not scroll sideways."""
        await expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)
        if status:
            await expect(self.page.locator(".current-status .badge")).to_have_text(status)
        width = BROWSERS[self.browser]["viewport"]["width"]
        assert await self.page.evaluate("document.documentElement.scrollWidth") <= width

    async def screenshot(self, name: str) -> None:
        await self.page.evaluate("scrollTo(0, 0)")
        await screenshot(self.page, f"story-{self.browser}-{name}")

    async def clicks(self, role: Literal["button", "link"], name: str | None = None) -> None:
        await self._activate(self.page.get_by_role(role, name=name, exact=True), "Enter")

    async def ticks(self, label: str) -> None:
        await self._activate(self.page.get_by_role("checkbox", name=label), "Space")

    async def opens(self, summary: str) -> None:
        await self._activate(self.page.locator("summary", has_text=summary), "Enter")

    async def writes(self, label: str, text: str) -> None:
        target = self.page.get_by_label(label)
        if self.browser == "keyboard":
            await self._tab_to(target)
            await self.page.keyboard.type(text)
        else:
            await target.fill(text)

    async def _activate(self, target: Locator, key: str) -> None:
        if self.browser == "keyboard":
            await self._tab_to(target)
            await self.page.keyboard.press(key)
        else:
            await target.click()

    async def _tab_to(self, target: Locator) -> None:
        await expect(target).to_be_visible()
        for _ in range(40):
            if await target.evaluate("element => element === document.activeElement"):
                return
            await self.page.keyboard.press("Tab")
        raise AssertionError(f"the Tab key does not reach {target}")

    async def waits_for(self, account: str, status: str) -> None:
        """Wait until the page shows the status. Without scripts, reload it with its link."""
        if self.browser == "no-scripts":
            while await self.page.locator(".current-status .badge").inner_text() != status:
                async with self.page.expect_event("load"):
                    await self.clicks("link", "Reload")
        await self.sees(account, status)

    def delivery(self, event: str) -> Locator:
        """Return the newest delivery of this kind on the page of a webhook endpoint."""
        return self.page.locator(".deliveries tbody tr", has_text=event).first

    async def sees_delivery(self, event: str, result: str) -> None:
        """Wait until the newest delivery of this kind has this result."""
        while await self.delivery(event).locator(".badge").inner_text() != result:
            async with self.page.expect_event("load"):
                await self.clicks("link", "Reload")

    async def opens_the_request_form(self, stack: RunningStack) -> None:
        await self.page.goto(stack.url("WEB_PORT"))
        await self.clicks("link", "Request Smart Account")

    async def signs_in(self) -> None:
        await self.clicks("button", "Pat Lee")
        await self.sees("Request a Smart Account for Your Customer")

    async def fills_in(self, account: str, customer: str) -> None:
        await self.writes("Account name", account)
        await self.writes("Customer email", customer)
        await self.writes("Note to customer", "As agreed on the phone.")
        await self.writes("User emails", f"bo@{customer.partition('@')[2]}")

    async def sends(self, account: str) -> None:
        await self.clicks("button", "Review Request")
        await self.sees("Review Request")
        await self.clicks("button", "Send Request")
        await self.sees("Smart Account Request Complete")
        await self.clicks("link", "Follow the request")
        await self.sees(account, "Pending")

    async def accepts(self, link: str) -> None:
        await self.page.goto(link)
        await self.sees("Accept a Smart Account")
        await self.screenshot("customer")
        await self.ticks("I am authorised")
        await self.clicks("button", "Accept the account")
        await self.sees("Your Smart Account is active")


class NewPerson(Protocol):
    async def __call__(self, browser: str, **options: Any) -> Person: ...
