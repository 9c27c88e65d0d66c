"""Pages, search, list, file and API after a person in a request was erased."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Page

from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.contract.steps import Decision
from smart_accounts.store.audit import Action, Actor, Origin, Role
from smart_accounts.store.links import save_link
from smart_accounts.store.request_view import RequestDetail
from smart_accounts.tokens import LinkTokens, token_hash
from tests.support.keys import KEY
from tests.support.partner_site import ACME_PAGE, PartnerSite, pat_request
from tests.support.partners import OPERATOR, PAT

NOW = datetime.now(UTC)
ADA = "ada@acme.example"


async def add_declined_request(site: PartnerSite) -> str:
    run = await site.add_request(pat_request(), at=NOW - timedelta(days=3))
    reply = f"550 5.1.1 <{ADA}>: unknown"
    await site.record_email(run, EmailKind.ACTIVATION, EmailState.BOUNCED, at=NOW, reply=reply)
    origin = Origin(client_address="192.0.2.7", user_agent="Firefox")
    customer = Actor(role=Role.CUSTOMER, email=ADA)
    await site.store.audit.record(Action.DECLINE, customer, origin, run)
    sender = Actor(role=Role.REQUESTER, email=PAT.email, name=PAT.name, identity=PAT.identity)
    await site.store.audit.record(Action.SEND, sender, origin, run)
    decision = Decision(status=Status.DECLINED, at=NOW - timedelta(days=2), by="customer")
    await site.record_decision(run, decision)
    return run


async def erased_request(page: Page, site: PartnerSite) -> None:
    """The page of a request whose requester was erased, as operators see it."""
    run = await add_declined_request(site)
    await site.store.erasure.erase((await site.store.erasure.find(PAT.email)).person, [run], NOW)
    await site.sign_in(OPERATOR)
    await page.goto(f"{site.url}{ACME_PAGE}")


@pytest.mark.parametrize("erased", [ADA, PAT.email, "everyone"])
async def test_everything_that_shows_the_request_still_works(
    partner_site: PartnerSite, erased: str
) -> None:
    site, store = partner_site, partner_site.store
    run = await add_declined_request(site)
    token = LinkTokens([KEY]).candidates(run, 1)[0]
    async with store.engine.begin() as connection:
        await save_link(connection, run, 1, token_hash(token))
    if erased == "everyone":
        await store.purge.purge(await store.purge.ended(NOW, []), NOW)
        gone = [ADA, PAT.email, PAT.name, "192.0.2.7"]
    else:
        await store.erasure.erase((await store.erasure.find(erased)).person, [run], NOW)
        gone = [erased, *([PAT.name] if erased == PAT.email else [])]

    await site.sign_in(OPERATOR)
    detail = (await site.http.get(ACME_PAGE)).text
    assert "Personal data was erased" in detail
    assert "as stated by the client" not in detail
    assert "Nothing was done on our pages" not in detail
    listed = await site.http.get(f"/requests?q={'acme' if erased == PAT.email else 'erased'}")
    assert "Acme" in listed.text
    file = await site.http.get("/requests.csv")
    link = await site.http.get(f"/activate/{token}")
    for response in (listed, file, link):
        assert response.status_code == 200
    request = await store.requests.find(run)
    assert request
    answer = RequestDetail.of(request, await store.emails.statuses(request)).model_dump_json()
    for text in (detail, listed.text, file.text, link.text, answer):
        assert not [word for word in gone if word in text]
    assert "<dd>erased</dd>" in detail or erased == PAT.email  # the customer
    assert "erased" in file.text
