"""How the page of a request stays up to date in a browser."""

import asyncio
from datetime import UTC, datetime

import pytest
from playwright.async_api import expect

from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.steps import Decision
from smart_accounts.web.requests import create, events
from tests.support.browser import OpenPage
from tests.support.partner_site import ACME_PAGE, FORM, PartnerSite, pat_request
from tests.support.partners import PAT
from tests.web.conftest import StartServer

NOW = datetime.now(UTC)


async def test_changes_appear_without_a_reload(
    served_partner_site: PartnerSite, new_page: OpenPage
) -> None:
    run = await served_partner_site.add_request(pat_request())
    async with new_page(timezone_id="Asia/Kolkata") as page:
        loads: list[str] = []
        page.on("load", lambda page: loads.append(page.url))
        await page.goto(f"{served_partner_site.url}{ACME_PAGE}")
        await expect(page.get_by_text("updates automatically")).to_be_visible()
        await page.get_by_text("Withdraw the request").first.click()
        await page.get_by_label("Reason").fill("Half a sent")
        await served_partner_site.record_email(run, EmailKind.ACTIVATION)
        await expect(page.get_by_text("Activation email sent", exact=True)).to_be_visible()
        # A text that somebody is typing stays, and its field keeps the focus.
        await expect(page.get_by_label("Reason")).to_have_value("Half a sent")
        await expect(page.get_by_label("Reason")).to_be_focused()
        await expect(page.locator("#announcement")).to_have_text("Pending. Activation email sent.")
        await expect(page.locator("main time")).to_contain_text(["GMT+5:30"] * 5)
        await served_partner_site.store.requests.note_signalled(run, 1, "accepted")
        await expect(page.get_by_text("Being activated", exact=True)).to_be_visible()
        await expect(page.get_by_role("heading", name="Progress")).to_be_focused()
        await expect(page.get_by_text("Withdraw the request")).to_have_count(0)
        await served_partner_site.record_decision(run, Decision(status=Status.ACTIVE, at=NOW))
        await expect(page.get_by_text("Active", exact=True)).to_be_visible()
        await expect(page).to_have_title("Active: Acme Networks · Example Accounts")
    assert len(loads) == 1


async def test_page_in_the_background_does_not_listen_for_events(
    served_partner_site: PartnerSite, new_page: OpenPage
) -> None:
    """A browser opens six connections to a site, so six listening pages would block all others."""
    run = await served_partner_site.add_request(pat_request())
    async with new_page() as page:
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        await page.add_init_script(
            "Object.defineProperty(document, 'hidden', {get: () => window.inBackground ?? true})"
        )
        await page.goto(f"{served_partner_site.url}{ACME_PAGE}")
        await expect(page.get_by_text("updates automatically")).to_be_visible()
        assert not [url for url in requested if "/events" in url]
        await served_partner_site.record_email(run, EmailKind.ACTIVATION)
        await page.evaluate(
            "window.inBackground = false; document.dispatchEvent(new Event('visibilitychange'))"
        )
        await expect(page.get_by_text("Activation email sent", exact=True)).to_be_visible()


async def test_page_without_a_stream_still_updates(
    served_partner_site: PartnerSite, new_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STREAMS_PER_SESSION", 0)
    run = await served_partner_site.add_request(pat_request())
    async with new_page() as page:
        await page.clock.install()
        async with page.expect_response(lambda response: "/events" in response.url) as refused:
            await page.goto(f"{served_partner_site.url}{ACME_PAGE}")
        assert (await refused.value).status == 429
        await served_partner_site.record_email(run, EmailKind.ACTIVATION)
        await page.clock.run_for(10_000)
        await expect(page.get_by_text("Activation email sent", exact=True)).to_be_visible()


async def test_page_says_when_its_session_has_ended(
    served_partner_site: PartnerSite, new_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(events, "RECONNECT_MILLISECONDS", 10)
    await served_partner_site.add_request(pat_request())
    async with new_page() as page:
        await page.clock.install()
        async with page.expect_response(lambda response: "/events" in response.url):
            await page.goto(f"{served_partner_site.url}{ACME_PAGE}")
        is_refused = page.expect_response(lambda response: response.status == 401)
        async with is_refused:
            await served_partner_site.store.sessions.end_of_person(PAT)
        await page.clock.run_for(10_000)
        await expect(page.get_by_text("You are no longer signed in.")).to_be_visible()


async def test_link_updates_the_page_without_scripts(
    served_partner_site: PartnerSite, new_page: OpenPage
) -> None:
    run = await served_partner_site.add_request(pat_request())
    async with new_page(java_script_enabled=False) as page:
        await page.goto(f"{served_partner_site.url}{ACME_PAGE}")
        await expect(page.get_by_text("updates automatically")).to_be_hidden()
        await served_partner_site.record_decision(run, Decision(status=Status.LAPSED, at=NOW))
        await page.get_by_role("link", name="Reload").click()
        await expect(page.get_by_text("The customer did not answer in time.")).to_be_visible()


async def test_starting_page_reloads_without_scripts(
    served_partner_site: PartnerSite, new_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create, "CHECK_SECONDS", 0)
    sent = await served_partner_site.post("/requests", **FORM)
    async with new_page(java_script_enabled=False) as page:
        await page.goto(served_partner_site.url + sent.headers["location"])
        await served_partner_site.store_running_requests()
        await expect(page.get_by_text("Smart Account Request Complete").first).to_be_visible()


async def test_server_stops_at_once_while_pages_listen(
    partner_site: PartnerSite, new_page: OpenPage, start_server: StartServer
) -> None:
    await partner_site.add_request(pat_request())
    server, serving = await start_server(partner_site)
    async with new_page() as page:
        async with page.expect_response(lambda response: "/events" in response.url):
            await page.goto(f"{partner_site.url}{ACME_PAGE}")
        server.should_exit = True
        async with asyncio.timeout(10):
            await serving
