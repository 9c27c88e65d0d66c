"""The partner's pages with a real worker, from the form to the withdrawal."""

import asyncio
import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import httpx
import pytest

from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.app import create_app
from tests.support.keys import KEY
from tests.support.page_content import hidden_fields
from tests.support.partners import ISSUER, PAT, session_cookie
from tests.support.service import Service
from tests.support.web_settings import web_settings


@pytest.fixture
async def pat(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a signed-in partner."""
    settings = web_settings("http://127.0.0.1", oidc_issuer=ISSUER)
    await migrate(service.database_url)
    async with AccountStore.open(service.database_url) as store:
        app = create_app(store, service.requests(), LinkTokens([KEY]), settings)
        name, cookie = await session_cookie(app, PAT)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://127.0.0.1",
            follow_redirects=True,
        ) as http:
            http.cookies.set(name, cookie, domain="127.0.0.1")
            yield http


async def wait_for_text(http: httpx.AsyncClient, url: httpx.URL | str, *texts: str) -> str:
    """Load a page again until it contains all of these texts."""
    async with asyncio.timeout(40):
        while True:
            page = (await http.get(url)).text
            if all(each in page for each in texts):
                return page
            await asyncio.sleep(0.1)


async def test_from_the_form_to_the_withdrawal(
    service: Service, new_request: dict[str, Any], pat: httpx.AsyncClient
) -> None:
    domain = new_request["account_domain"]
    form = hidden_fields(await pat.get("/requests/new")) | {
        "account_name": "Acme Networks",
        "customer_email": f"ada@{domain}",
        "user_emails": f"bo@{domain}, cy@{domain}",
    }
    review = await pat.post("/requests/review", data=form)
    waiting = await pat.post("/requests", data=hidden_fields(review))
    assert (
        "We have received your request" in waiting.text
    )  # Temporal has recorded the request, and no worker runs yet
    again = await pat.post("/requests", data=hidden_fields(review))
    assert again.url == waiting.url

    await service.start_worker()
    complete = await wait_for_text(pat, waiting.url, "Smart Account Request Complete")
    url = unescape(re.findall(r'href="([^"]+)">Follow the request', complete)[0])
    await service.mail.wait_for("activation", f"ada@{domain}")
    page = await wait_for_text(pat, url, "Activation email sent", "Next reminder")
    token, action = hidden_fields(httpx.Response(200, text=page)), url.replace("?", "/{}?")

    too_early = await pat.post(action.format("resend"), data=token)
    assert (too_early.status_code, "has just been sent" in too_early.text) == (409, True)
    bad = token | {"customer_email": "pat@partner.example"}
    wrong = await pat.post(action.format("replace-approver"), data=bad)
    assert (wrong.status_code, "must differ from the requester" in wrong.text) == (422, True)
    new = token | {"customer_email": f"eve@{domain}"}
    replaced = await pat.post(action.format("replace-approver"), data=new)
    assert "An activation email to the new approver is on its way" in replaced.text
    await service.mail.wait_for("activation", f"eve@{domain}")

    reason = token | {"reason": "Wrong company."}
    withdrawn = await pat.post(action.format("withdraw"), data=reason)
    assert withdrawn.status_code == 200
    page = await wait_for_text(pat, url, "Notice of the withdrawal sent", "Wrong company.")
    assert "By Pat Lee, Partner Ltd." in page
    assert "<details" not in page
    again = await pat.post(action.format("withdraw"), data=reason)
    assert (again.status_code, "already withdrawn" in again.text) == (200, True)
    late = await pat.post(action.format("resend"), data=token)
    assert (late.status_code, "There is a problem" in late.text) == (409, True)
    assert "Withdrawn" in (await pat.get("/requests")).text
