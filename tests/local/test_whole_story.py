"""Whole requests against a local stack: the partner in one browser, the customer in another.

The emails between them are read from the mailbox.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from playwright.async_api import Browser, StorageState, expect

from smart_accounts.contract.messages import Requester, SmartAccountRequest
from tests.support.browser import OpenPage
from tests.support.local_stack import RunningStack
from tests.support.patient_client import PatientClient
from tests.support.person import BROWSERS, NewPerson, Person
from tests.support.subscriber import FAIL, TAKE, Subscriber

SignIn = Callable[[str], Awaitable[Person]]
StartRequest = Callable[[str, str, timedelta], Awaitable[str]]


def in_full(browser: str) -> ParameterSet:
    """Use this browser only with ``--full``. ``test_accepted_request`` always uses each."""
    return pytest.param(browser, marks=pytest.mark.full)


@pytest.fixture
async def new_person(new_page: OpenPage) -> AsyncIterator[NewPerson]:
    async with AsyncExitStack() as pages:

        async def open_browser(browser: str, **options: Any) -> Person:
            page = await pages.enter_async_context(new_page(**BROWSERS[browser], **options))
            # The local provider's pages load a style sheet from the internet. Block it, because
            # the tests must not depend on other machines.
            await page.route(
                lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort()
            )
            return Person(page, browser)

        yield open_browser


@pytest.fixture(scope="module")
async def session(stack: RunningStack, chromium: Browser) -> StorageState:
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
def sign_in_pat(new_person: NewPerson, session: StorageState) -> SignIn:
    async def sign_in(browser: str) -> Person:
        return await new_person(browser, storage_state=session)

    return sign_in


@pytest.fixture(scope="module")
async def start_request(stack: RunningStack) -> StartRequest:
    """Start a request of Pat with any acceptance window, which the form does not offer.

    Returns the path of its page.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{stack.ports['TEMPORAL_PORT']}")
        client = await PatientClient.connect()

    async def start(account: str, customer: str, window: timedelta) -> str:
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

    return start


@pytest.fixture(scope="module", autouse=True)
async def lapsing_requests(start_request: StartRequest) -> dict[str, str]:
    """Paths by browser. They start before the first test, so that no test waits for the end."""
    window = timedelta(seconds=15)
    return {
        browser: await start_request("Quarry Works", f"ada@quarry-{browser}.example", window)
        for browser in ("phone", "no-scripts")
    }


@pytest.mark.parametrize("browser", BROWSERS)
async def test_accepted_request(stack: RunningStack, new_person: NewPerson, browser: str) -> None:
    customer = f"ada@harbour-{browser}.example"
    pat, ada = await new_person(browser), await new_person(browser)
    await pat.opens_the_request_form(stack)
    await pat.signs_in()
    await pat.fills_in("Harbour Logistics", customer)
    await pat.screenshot("form")
    await pat.sends("Harbour Logistics")
    link = await stack.activation_link(customer)
    await pat.screenshot("request")
    await ada.accepts(link)
    await ada.screenshot("activated")
    await pat.waits_for("Harbour Logistics", "Active")
    await pat.screenshot("active")


@pytest.mark.parametrize("browser", ["phone", in_full("keyboard"), in_full("no-scripts")])
async def test_declined_request(
    stack: RunningStack, new_person: NewPerson, sign_in_pat: SignIn, browser: str
) -> None:
    customer = f"eve@meadow-{browser}.example"
    pat, eve = await sign_in_pat(browser), await new_person(browser)
    await pat.opens_the_request_form(stack)
    await pat.fills_in("Meadow Farms", customer)
    await pat.sends("Meadow Farms")
    await eve.page.goto(await stack.activation_link(customer))
    await eve.writes("Reason", "We have another supplier.")
    await eve.clicks("button", "Decline")
    await eve.sees("You declined the Smart Account")
    await eve.screenshot("customer-declined")
    await pat.waits_for("Meadow Farms", "Declined")
    await expect(pat.page.get_by_role("blockquote")).to_have_text("We have another supplier.")
    await pat.screenshot("declined")


@pytest.mark.parametrize("browser", [in_full("phone"), in_full("keyboard"), "no-scripts"])
async def test_resent_activation_email(
    stack: RunningStack,
    new_person: NewPerson,
    sign_in_pat: SignIn,
    start_request: StartRequest,
    browser: str,
) -> None:
    customer = f"ada@vineyard-{browser}.example"
    # A shorter window allows an earlier resend. With 60 seconds it is allowed after 0.6 seconds.
    path = await start_request("Vineyard Estates", customer, timedelta(seconds=60))
    pat, ada = await sign_in_pat(browser), await new_person(browser)
    old_link = await stack.activation_link(customer)
    await ada.page.goto(old_link)
    await ada.sees("Accept a Smart Account")
    await pat.page.goto(stack.url("WEB_PORT") + path)
    await pat.sees("Vineyard Estates", "Pending")
    await pat.opens("Send the activation email again")
    await pat.screenshot("resend")
    await pat.clicks("button", "Send it again")
    await expect(pat.page.get_by_role("status").first).to_contain_text("is on its way")
    await pat.screenshot("resent")
    new_link = await stack.activation_link(customer, other_than=old_link)
    await ada.ticks("I am authorised")
    await ada.clicks("button", "Accept the account")  # still on the page of the old link
    await ada.sees("There is a newer link")
    await ada.screenshot("customer-old-link")
    await ada.accepts(new_link)
    await pat.waits_for("Vineyard Estates", "Active")


async def test_replaced_approver(
    stack: RunningStack, new_person: NewPerson, sign_in_pat: SignIn
) -> None:
    pat, customer = await sign_in_pat("phone"), await new_person("phone")
    await pat.opens_the_request_form(stack)
    await pat.fills_in("Orchard Foods", "ada@orchard.example")
    await pat.sends("Orchard Foods")
    old_link = await stack.activation_link("ada@orchard.example")
    await pat.opens("Replace the approver")
    await pat.writes("New approver", "cy@orchard.example")
    await pat.clicks("button", "Replace the approver")
    done = pat.page.get_by_role("status").filter(has_text="The previous link no longer works.")
    await expect(done).to_be_visible()
    new_link = await stack.activation_link("cy@orchard.example")
    await pat.opens("Send the activation")
    await pat.clicks("button", "Send it again")
    await expect(pat.page.get_by_role("alert")).to_contain_text("has just been sent; try again at")
    await customer.page.goto(old_link)
    await customer.sees("There is a newer link")
    await customer.accepts(new_link)
    await pat.waits_for("Orchard Foods", "Active")


@pytest.mark.parametrize("browser", ["phone", "no-scripts"])
async def test_lapsed_request(
    stack: RunningStack,
    new_person: NewPerson,
    sign_in_pat: SignIn,
    lapsing_requests: dict[str, str],
    browser: str,
) -> None:
    pat, ada = await sign_in_pat(browser), await new_person(browser)
    await pat.page.goto(stack.url("WEB_PORT") + lapsing_requests[browser])
    await pat.waits_for("Quarry Works", "Lapsed")
    await pat.screenshot("lapsed")
    await ada.page.goto(await stack.activation_link(f"ada@quarry-{browser}.example"))
    await ada.sees("This request has lapsed")
    await ada.screenshot("customer-lapsed")
    await pat.clicks("link", "request a new Smart Account")
    await pat.sees("Request a Smart Account for Your Customer")


async def test_webhook_endpoint(
    stack: RunningStack, new_person: NewPerson, sign_in_pat: SignIn, subscriber: Subscriber
) -> None:
    """The partner's own system learns what happens, also after it was down for a while."""
    customer, path = "ada@lighthouse.example", "/smart-accounts"
    pat, ada = await sign_in_pat("no-scripts"), await new_person("no-scripts")
    await pat.page.goto(stack.url("WEB_PORT"))
    await pat.clicks("link", "Webhooks")
    await pat.clicks("link", "Register an endpoint")
    await pat.writes("URL", subscriber.url(path))
    await pat.writes("Description", "Our CRM")
    await pat.clicks("button", "Register")
    await pat.sees("Your endpoint is registered")
    subscriber.secrets[path] = await pat.page.locator(".secret code").inner_text()
    await pat.clicks("link", "Go to the endpoint")
    await pat.clicks("button", "Send test event")
    await pat.sees_delivery("Test event", "Delivered")
    endpoint = pat.page.url

    await pat.opens_the_request_form(stack)
    await pat.fills_in("Lighthouse", customer)
    await pat.sends("Lighthouse")
    await ada.accepts(await stack.activation_link(customer))
    await pat.page.goto(endpoint)
    await pat.sees_delivery("The customer accepted, and the account is active", "Delivered")

    subscriber.reply = FAIL
    await pat.clicks("button", "Send test event")
    await pat.sees_delivery("Test event", "Will be tried again")
    subscriber.reply = TAKE
    await pat.delivery("Test event").get_by_role("button", name="Send again").click()
    await pat.sees_delivery("Test event", "Delivered")
    taken = [each.event for each in subscriber.taken(path)]
    # Meanwhile, requests of other tests lapse.
    others = [each for each in taken if each["data"].get("account_name") == "Quarry Works"]
    types = [each["type"] for each in taken if each not in others]
    assert types == ["ping", "request.pending", "request.active", "ping"]
