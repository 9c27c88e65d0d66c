"""Mallory, a partner with a valid sign-in, tries for two weeks to misuse the service.

The pages, the worker, the store and the emails are real. Temporal skips the time.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.settings import Settings
from smart_accounts.store.sessions import Partner
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from tests.support.keys import KEY
from tests.support.mail_server import MailServer
from tests.support.page_content import visible_text
from tests.support.partners import OPERATOR, PAT, session_cookie
from tests.support.scenario import DAY, Scenario
from tests.support.store import Query

MALLORY = replace(PAT, subject="mallory", email="mallory@evil.example", name="Mallory")
FALSE_PAT = replace(MALLORY, email="PAT@Partner.example")
CEO, ALIAS = "ceo@victim.example", "alias@evil.example"
VICTIM = "/requests/smart-account-victim.example"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes = {"max_starts_per_requester_per_hour": 500, "oidc_issuer": PAT.issuer}
    return settings.model_copy(update=changes)


class Browser:
    """A browser in which one person is signed in."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(path)

    async def post(self, path: str, **form: str) -> httpx.Response:
        page = (await self.http.get("/requests")).text
        found = re.search(r'name="csrf" value="([^"]+)"', page)
        assert found
        return await self.http.post(path, data=form | {"csrf": found[1]})

    async def asks_for(self, domain: str, customer: str) -> int:
        """Send a request. Return 303, or the status code of the form that shows why not."""
        form = {"account_name": "Victim", "customer_email": customer, "account_domain": domain}
        response = await self.post("/requests", **form)
        if "/requests/new?" in response.headers["location"]:
            response = await self.get(response.headers["location"])
        return response.status_code


@pytest.fixture
async def browsers(scenario: Scenario, settings: Settings) -> AsyncIterator[dict[str, Browser]]:
    app = create_app(scenario.store, scenario.client, LinkTokens([KEY]), settings)
    people: dict[str, Partner] = {
        "mallory": MALLORY,
        "false pat": FALSE_PAT,
        "pat": PAT,
        "opal": OPERATOR,
    }
    async with AsyncExitStack() as stack:
        opened = {}
        for name, partner in people.items():
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            http = httpx.AsyncClient(transport=transport, base_url=settings.base_url)
            opened[name] = Browser(await stack.enter_async_context(http))
            http.cookies.set(*await session_cookie(app, partner), domain="accounts.example")
        yield opened


async def status_of(scenario: Scenario, domain: str, *statuses: Status) -> Status:
    """Wait until the newest request of a domain has one of the statuses."""
    scenario.started = await scenario.client.find_running(f"smart-account-{domain}")
    return (await scenario.until(*statuses)).status


async def takes_a_domain(scenario: Scenario, mallory: Browser) -> None:
    """Mallory wants victim.example for an address of her own."""
    assert await mallory.asks_for("victim.example", "mallory+x@evil.example") == 422
    assert await mallory.asks_for("victim.example", ALIAS) == 303
    await status_of(scenario, "victim.example", Status.IN_REVIEW)
    for action in ("approve", "reject", "close"):
        assert (await mallory.post(f"{VICTIM}/{action}", reason="Mine.")).status_code == 403
    response = await mallory.post(f"{VICTIM}/replace-approver", customer_email=CEO)
    assert response.status_code == 409


async def walks_around_the_review(scenario: Scenario, mallory: Browser) -> None:
    """Mallory asks the real approver of a subdomain, and then wants to replace them."""
    assert await mallory.asks_for("shop.victim.example", CEO) == 303
    await status_of(scenario, "shop.victim.example", Status.PENDING)
    page = "/requests/smart-account-shop.victim.example"
    for address in (ALIAS, "mallory+x@evil.example"):
        response = await mallory.post(f"{page}/replace-approver", customer_email=address)
        assert response.status_code == 409


async def floods_the_approver(scenario: Scenario, mallory: Browser) -> None:
    for number in range(12):
        domain = f"a{number}.victim.example"
        if await mallory.asks_for(domain, f"ceo+{number}@victim.example") != 303:
            continue
        if await status_of(scenario, domain, Status.PENDING, Status.REJECTED) == "pending":
            await scenario.until_all_sent()
            path = f"/requests/smart-account-{domain}/withdraw"
            assert (await mallory.post(path)).status_code == 303


async def reaches_for_pats_request(scenario: Scenario, browsers: dict[str, Browser]) -> None:
    """Mallory wants to see and withdraw Pat's request, also with Pat's address."""
    assert await browsers["pat"].asks_for("pat.victim.example", CEO) == 303, "limits are her own"
    await status_of(scenario, "pat.victim.example", Status.PENDING)
    page = "/requests/smart-account-pat.victim.example"
    for stranger in (browsers["mallory"], browsers["false pat"]):
        assert (await stranger.get(page)).status_code == 404
        assert (await stranger.post(f"{page}/withdraw")).status_code == 404
        assert "pat.victim.example" not in (await stranger.get("/requests")).text


async def test_attackers_story(
    scenario: Scenario,
    browsers: dict[str, Browser],
    mail_server: MailServer,
    query_store: Query,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "smart_accounts.security")
    mallory, pat, opal = browsers["mallory"], browsers["pat"], browsers["opal"]
    async with scenario.worker():
        await takes_a_domain(scenario, mallory)
        await walks_around_the_review(scenario, mallory)
        assert not mail_server.kinds(ALIAS)
        await floods_the_approver(scenario, mallory)
        assert len([each for each in mail_server.emails if each["To"].startswith("ceo")]) <= 10
        await reaches_for_pats_request(scenario, browsers)

        # Pat cannot have the domain yet. An operator sees both.
        assert await pat.asks_for("victim.example", CEO) == 409
        queue = visible_text(await opal.get("/requests?status=in_review"))
        assert "victim.example" in queue
        assert "Contested" in queue

        # Nobody reviews it, so the domain is free after 14 days.
        await scenario.env.sleep(14 * DAY)
        async with asyncio.timeout(40):
            while await query_store("SELECT id FROM requests WHERE status = 'in_review'"):
                await asyncio.sleep(0.05)
        assert await pat.asks_for("victim.example", CEO) == 303
        await status_of(scenario, "victim.example", Status.PENDING)
    assert await query_store("SELECT id FROM accounts WHERE state = 'active'") == []
    assert events_of(caplog) >= {
        ("authorization.access", "failure"),
        ("request.replace-approver", "failure"),
        ("bypass.request-limit", "failure"),
        ("request.start", "success"),
    }


def events_of(caplog: pytest.LogCaptureFixture) -> set[tuple[str, str]]:
    """Return the events of the security log that name a person, with their outcomes."""
    records = [each for each in caplog.records if each.name == "smart_accounts.security"]
    lines = [json.loads(each.getMessage()) for each in records]
    return {(line["event"], line["outcome"]) for line in lines if line["person"]}
