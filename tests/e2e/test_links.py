"""GET and HEAD change nothing, and accepting needs a check box and a button."""

import asyncio
from typing import Any

import httpx
from playwright.async_api import expect

from smart_accounts.contract.messages import Status
from tests.support.browser import OpenPage
from tests.support.mail_server import LinkIn
from tests.support.ports import FreePort
from tests.support.service import Service
from tests.support.store import Query


async def test_scanners_change_nothing_and_a_person_accepts(
    service: Service,
    new_request: dict[str, Any],
    link_in: LinkIn,
    query_service: Query,
    new_page: OpenPage,
) -> None:
    await service.start_worker()
    await service.start_web()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    before = len((await service.handle(started).fetch_history()).events)
    async with httpx.AsyncClient(timeout=60) as http:
        calls = [http.request(("GET", "HEAD")[n % 2], link) for n in range(100)]
        responses = await asyncio.gather(*calls)
    assert {response.status_code for response in responses} == {200}

    async with new_page() as page:
        await page.goto(link, wait_until="networkidle")
        assert len((await service.handle(started).fetch_history()).events) == before
        assert await query_service("SELECT signalled FROM requests") == [{"signalled": None}]

        await page.get_by_role("checkbox", name="I am authorised").check()
        await page.get_by_role("button", name="Accept").click()
        heading = page.get_by_role("heading", name="Smart Account is active")
        await expect(heading).to_be_visible(timeout=40_000)
    await service.wait_for(started, Status.ACTIVE)


async def test_page_shows_received_until_the_account_is_active(
    service: Service, new_request: dict[str, Any], link_in: LinkIn
) -> None:
    worker = await service.start_worker()
    await service.start_web()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    worker.terminate()
    await asyncio.to_thread(worker.wait, 40)
    async with httpx.AsyncClient(follow_redirects=True, timeout=30) as http:
        response = await http.post(link, data={"agree": "yes"})
        assert response.status_code == 200
        assert "We have received your acceptance" in response.text
        assert "Smart Account is active" not in (await http.get(link)).text
        await service.start_worker()
        await service.wait_for(started, Status.ACTIVE)
        assert "Smart Account is active" in (await http.get(link)).text


async def test_link_appears_only_in_the_email(
    service: Service, new_request: dict[str, Any], link_in: LinkIn, query_service: Query
) -> None:
    await service.start_worker()
    await service.start_web()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    token = link.rpartition("/")[2]
    async with httpx.AsyncClient(follow_redirects=True, timeout=30) as http:
        await http.post(link, data={"agree": "yes"})
    await service.wait_for(started, Status.ACTIVE, sent=5)
    assert len(token) == 43
    assert token not in (await service.handle(started).fetch_history()).to_json()
    assert token not in service.log
    assert token not in str(await query_service("SELECT * FROM activation_links"))


async def test_link_of_a_terminated_request(
    service: Service, new_request: dict[str, Any], link_in: LinkIn
) -> None:
    await service.start_worker()
    await service.start_web()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    await service.handle(started).terminate()
    async with httpx.AsyncClient(timeout=60) as http:
        assert (await http.post(link, data={"agree": "yes"})).status_code == 410


async def test_temporal_outage_returns_503(
    service: Service, new_request: dict[str, Any], link_in: LinkIn, free_port: FreePort
) -> None:
    await service.start_worker()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    link = link_in(await service.mail.wait_for("activation"))
    service.launch("-m", "smart_accounts.web", TEMPORAL_ADDRESS=f"127.0.0.1:{free_port()}")
    health = f"http://127.0.0.1:{service.web_port}"
    async with httpx.AsyncClient(timeout=30) as http, asyncio.timeout(60):
        while True:
            try:
                assert (await http.get(f"{health}/healthz")).status_code == 200
                break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        ready = await http.get(f"{health}/readyz")
        assert (ready.status_code, ready.json()["temporal"]) == (503, "down")
        response = await http.post(link, data={"agree": "yes"})
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert (await service.wait_for(started, Status.PENDING)).decided_at is None
