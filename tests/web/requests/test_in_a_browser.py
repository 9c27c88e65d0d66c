"""The partner's pages as a person uses them: by mouse, by keyboard alone, without scripts."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import Error, Page, expect

from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import Rejected, Unavailable

NOW = datetime.now(UTC)
HERE = "/requests/smart-account-acme.example"
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
BROWSERS: dict[str, dict[str, Any]] = {
    "desk": {},
    "no scripts": {"java_script_enabled": False},
    "phone without scripts": PHONE | {"java_script_enabled": False},
}


def heading(page: Page) -> Any:
    return expect(page.get_by_role("heading", level=1))


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


@pytest.mark.parametrize("browser", ["desk", "phone without scripts"])
async def test_from_the_start_page_to_withdrawn(
    served_desk: Any, new_page: Any, browser: str
) -> None:
    async with new_page(**BROWSERS[browser]) as page:
        await page.goto(served_desk.url)
        await page.get_by_role("link", name="Request Smart Account").click()
        await heading(page).to_have_text("Request a Smart Account for Your Customer")
        await page.get_by_label("Account name").fill("Acme Networks")
        await page.get_by_label("Customer email").fill("ada@acme.example")
        await page.get_by_label("User emails").fill("bo@acme.example; cy@")
        await button(page, "Review Request").click()
        await page.get_by_role("link", name="“cy@”").click()
        await expect(page.get_by_label("User emails")).to_be_focused()
        await page.get_by_label("User emails").fill("bo@acme.example; cy@acme.example")
        await button(page, "Review Request").click()
        await heading(page).to_have_text("Review Request")
        await button(page, "Change").click()
        await page.get_by_label("Account name").fill("Acme")
        await button(page, "Review Request").click()
        await expect(page.get_by_text("cy@acme.example")).to_be_visible()
        await button(page, "Send Request").click()
        await heading(page).to_have_text("We have your request")
        await served_desk.work()
        # Without a click and without a script: the page looks again by itself.
        await heading(page).to_have_text("Smart Account Request Complete")
        await page.get_by_role("link", name="Follow the request").click()
        await heading(page).to_have_text("Acme")
        await page.get_by_role("link", name="← My requests").click()
        await page.get_by_role("link", name="Acme", exact=True).click()
        await page.get_by_text("Withdraw the request").first.click()
        await page.get_by_label("Reason").fill("Wrong company.")
        await button(page, "Withdraw the request").click()
        await expect(page.get_by_role("status").first).to_contain_text("The request is withdrawn.")
    assert served_desk.done == [("withdraw", "Wrong company.")]


async def test_the_domain_follows_the_address_until_it_is_written(
    served_desk: Any, new_page: Any
) -> None:
    async with new_page() as page:
        await page.goto(f"{served_desk.url}/requests/new")
        email, domain = page.get_by_label("Customer email"), page.get_by_label("Account domain")
        await email.press_sequentially("ada@acme.exa")
        await expect(domain).to_have_value("acme.exa")
        await email.press_sequentially("mple")
        await expect(domain).to_have_value("acme.example")
        await domain.fill("group.example")
        await email.fill("bo@acme.example")
        await expect(domain).to_have_value("group.example")
        await domain.fill("")
        await email.fill("cy@other.example")
        await expect(domain).to_have_value("other.example")


async def reload(page: Page) -> None:
    """Once the browser has put its own page in place of ours, which takes a moment."""
    async with asyncio.timeout(30):
        while True:
            try:
                await page.reload()
            except Error:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.mark.parametrize("again", ["double click", "back", "reload"])
async def test_sending_twice_makes_one_request(served_desk: Any, new_page: Any, again: str) -> None:
    async with new_page() as page:
        await page.goto(f"{served_desk.url}/requests/new")
        await page.get_by_label("Account name").fill("Acme")
        await page.get_by_label("Customer email").fill("ada@acme.example")
        await button(page, "Review Request").click()
        send = button(page, "Send Request")
        await (send.dblclick() if again == "double click" else send.click())
        await heading(page).to_have_text("We have your request")
        await served_desk.work()
        await heading(page).to_have_text("Smart Account Request Complete")
        if again == "back":
            # No page of ours is kept: the browser says so, and a reload sends its form again.
            with pytest.raises(Error, match="ERR_CACHE_MISS"):
                await page.go_back()
            await reload(page)
            await heading(page).to_have_text("Review Request")
            await button(page, "Send Request").click()
        elif again == "reload":
            await page.reload()
        await heading(page).to_have_text("Smart Account Request Complete")
    assert len(served_desk.temporal.running) == 1
    assert (await served_desk.store.listing.page(requester_email=None)).total == 1


async def test_news_appear_without_a_reload(served_desk: Any, new_page: Any, wanted: Any) -> None:
    run = await served_desk.open(wanted())
    async with new_page() as page:
        loads: list[str] = []
        page.on("load", lambda page: loads.append(page.url))
        await page.goto(f"{served_desk.url}{HERE}")
        await expect(page.get_by_text("keeps itself up to date")).to_be_visible()
        await page.get_by_text("Withdraw the request").first.click()
        await page.get_by_label("Reason").fill("Half a sent")
        await served_desk.mailed(run, EmailKind.ACTIVATION)
        await expect(page.get_by_text("Activation email sent", exact=True)).to_be_visible()
        # What somebody is typing stays, with the cursor in it.
        await expect(page.get_by_label("Reason")).to_have_value("Half a sent")
        await expect(page.get_by_label("Reason")).to_be_focused()
        await expect(page.locator("#news")).to_have_text("Pending. Activation email sent.")
        await served_desk.store.requests.note_signalled(run, "accepted")
        await expect(page.get_by_text("Being activated", exact=True)).to_be_visible()
        await expect(page.get_by_role("heading", name="Progress")).to_be_focused()
        await expect(page.get_by_text("Withdraw the request")).to_have_count(0)
        await served_desk.decide(run, Decision(status=Status.ACTIVE, at=NOW))
        await expect(page.get_by_text("Active", exact=True)).to_be_visible()
        await expect(page).to_have_title("Active: Acme Networks · Example Accounts")
    assert len(loads) == 1


async def test_a_page_in_the_background_listens_to_nothing(
    served_desk: Any, new_page: Any, wanted: Any
) -> None:
    """A browser has six connections to a site: as many open pages would block a seventh."""
    run = await served_desk.open(wanted())
    async with new_page() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.add_init_script(
            "Object.defineProperty(document, 'hidden', {get: () => window.away ?? true})"
        )
        await page.goto(f"{served_desk.url}{HERE}")
        await expect(page.get_by_text("keeps itself up to date")).to_be_visible()
        assert not [url for url in asked if "/events" in url]
        await served_desk.mailed(run, EmailKind.ACTIVATION)
        await page.evaluate(
            "window.away = false; document.dispatchEvent(new Event('visibilitychange'))"
        )
        await expect(page.get_by_text("Activation email sent", exact=True)).to_be_visible()


async def test_without_scripts_a_link_looks_again(
    served_desk: Any, new_page: Any, wanted: Any
) -> None:
    run = await served_desk.open(wanted())
    async with new_page(java_script_enabled=False) as page:
        await page.goto(f"{served_desk.url}{HERE}")
        await expect(page.get_by_text("keeps itself up to date")).to_be_hidden()
        await served_desk.decide(run, Decision(status=Status.LAPSED, at=NOW))
        await page.get_by_role("link", name="Look again").click()
        await expect(page.get_by_text("Nobody answered in time.")).to_be_visible()


@pytest.mark.parametrize("browser", ["desk", "no scripts"])
async def test_actions_answer_beside_themselves(
    served_desk: Any, new_page: Any, wanted: Any, browser: str
) -> None:
    await served_desk.open(wanted())
    async with new_page(**BROWSERS[browser]) as page:
        await page.goto(f"{served_desk.url}{HERE}")
        await page.get_by_text("Replace the approver").first.click()
        await page.get_by_label("New approver").fill("eve@")
        await button(page, "Replace the approver").click()
        await expect(page.get_by_role("alert")).to_be_focused()
        await expect(page.get_by_label("New approver")).to_have_value("eve@")
        await page.get_by_label("New approver").fill("eve@acme.example")
        served_desk.temporal.fails = Rejected("Too many activation emails in a day.")
        await button(page, "Replace the approver").click()
        await expect(page.locator("#replace-approver")).to_contain_text(
            "Too many activation emails"
        )
        served_desk.temporal.fails = Unavailable("No answer yet.")
        await button(page, "Replace the approver").click()
        await expect(page.locator("#replace-approver")).to_contain_text("No answer yet.")
        served_desk.temporal.fails = None
        await button(page, "Replace the approver").click()
        await expect(page.get_by_role("status").first).to_contain_text("The new approver is sent")
        await page.get_by_text("Send the activation email again").click()
        await button(page, "Send it again").click()
        await expect(page.get_by_role("status").first).to_contain_text("is on its way")
        await expect(page).to_have_url(f"{served_desk.url}{HERE}?run={await only_run(served_desk)}")
    sent = [("replace-approver", "eve@acme.example"), ("resend", None)]
    assert served_desk.done == sent


async def only_run(desk: Any) -> str:
    [item] = (await desk.store.listing.page(requester_email=None)).items
    run: str = item.request.id
    return run


async def test_by_keyboard_alone_with_the_focus_to_be_seen(served_desk: Any, new_page: Any) -> None:
    async def tab_to(name: str) -> None:
        for _ in range(30):
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            assert await focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
            label = await focused.evaluate("e => e.labels?.[0]?.innerText ?? e.innerText")
            if label.startswith(name):
                return
        raise AssertionError(f"no {name} within reach")

    async with new_page() as page:
        await page.goto(f"{served_desk.url}/requests/new")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
        await page.keyboard.press("Enter")
        for name, value in [("Account name", "Acme"), ("Customer email", "ada@acme")]:
            await tab_to(name)
            await page.keyboard.type(value)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_focused()
        await tab_to("Customer email")
        await page.keyboard.press("Enter")  # the summary's link leads to the field
        await expect(page.get_by_label("Customer email")).to_be_focused()
        await page.keyboard.press("End")
        await page.keyboard.type(".example")
        await page.keyboard.press("Enter")
        await heading(page).to_have_text("Review Request")
        await tab_to("Send Request")
        await page.keyboard.press("Enter")
        await heading(page).to_have_text("We have your request")
        await served_desk.work()
        await heading(page).to_have_text("Smart Account Request Complete")
        await tab_to("Follow the request")
        await page.keyboard.press("Enter")
        await heading(page).to_have_text("Acme")
        await tab_to("Send the activation email again")
        await page.keyboard.press("Space")
        await tab_to("Send it again")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status").first).to_contain_text("is on its way")
    assert served_desk.done == [("resend", None)]


async def test_the_service_ends_at_once_while_pages_listen(
    desk: Any, new_page: Any, wanted: Any, serve: Any
) -> None:
    await desk.open(wanted())
    server, serving = await serve(desk)
    async with new_page() as page:
        async with page.expect_response(lambda answer: "/events" in answer.url):
            await page.goto(f"{desk.url}{HERE}")
        server.should_exit = True
        async with asyncio.timeout(10):
            await serving


async def test_long_words_fit_a_phone(served_desk: Any, new_page: Any, wanted: Any) -> None:
    domain = f"{'a' * 60}.{'b' * 60}.example"
    long = wanted(
        domain,
        account_name="W" * 120,
        customer_email=f"{'m' * 64}@{domain}",
        note_to_customer="x" * 1024,
        user_emails=(f"{'n' * 64}@{domain}",),
    )
    await served_desk.open(long)
    for viewport in ({"width": 390, "height": 844}, {"width": 1280, "height": 900}):
        async with new_page(viewport=viewport) as page:
            for path in ("/requests", f"/requests/smart-account-{domain}"):
                await page.goto(served_desk.url + path)
                scrolled = await page.evaluate("document.documentElement.scrollWidth")
                assert scrolled == viewport["width"]
