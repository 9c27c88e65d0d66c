"""The provider sends back a browser that did not begin the sign-in, or lost its cookie."""

import base64

import httpx
import pytest

from smart_accounts.web.auth import login_attempt
from tests.support.identity_provider import NewVisitor, Visitor
from tests.support.site import Site

PAGE = "/requests?search=acme"


def another_client(site: Site) -> httpx.AsyncClient:
    """Return a client at the same site that shares no cookies."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(site.app), base_url="http://127.0.0.1")


async def open_in_office(visitor: Visitor, path: str) -> dict[str, str]:
    """Follow the redirects as an Office program does. The browser opens the provider's page."""
    async with another_client(visitor.site) as office:
        response = await office.get(path)
        return visitor.sign_in_at_provider(await office.get(response.headers["location"]))


async def test_link_in_an_office_document_opens_its_page(visitor: Visitor) -> None:
    back = await open_in_office(visitor, PAGE)
    again = visitor.sign_in_at_provider(await visitor.open_callback(**back))
    assert (await visitor.open_callback(**again)).headers["location"] == PAGE
    assert (await visitor.partner()).name == "Pat Lee"

    session = await visitor.open_session()
    back = await open_in_office(visitor, "/requests/new")
    assert (await visitor.open_callback(**back)).headers["location"] == "/requests/new"
    assert await visitor.open_session() == session


@pytest.mark.parametrize("order", [1, -1])
async def test_seven_tabs_are_opened_in_turn(visitor: Visitor, order: int) -> None:
    assert login_attempt.MAX_AT_ONCE < 7
    paths = [f"/requests?page={number}" for number in range(1, 8)]
    tabs = []
    for path in paths:
        sent = await visitor.http.get(path)
        response = await visitor.http.get(sent.headers["location"])
        back = visitor.sign_in_at_provider(response)
        tabs.append((path, back, visitor.provider.authorization_query))
    for path, back, query in tabs[::order]:
        visitor.provider.authorization_query = query
        response = await visitor.open_callback(**back)
        if response.headers["location"] != path:  # nobody was signed in yet
            assert path in (tabs[0][0], tabs[-1][0])
            response = await visitor.open_callback(**visitor.sign_in_at_provider(response))
        assert response.headers["location"] == path
        assert (await visitor.http.get(path)).status_code == 200


async def test_forms_in_other_tabs_still_work(visitor: Visitor) -> None:
    await visitor.sign_in()
    csrf = (await visitor.open_session()).csrf
    await visitor.sign_in()
    unknown = f"/sessions/{'0' * 64}/end"
    assert (await visitor.http.post(unknown, data={"csrf": csrf})).status_code == 404
    visitor.provider.token_changes["sub"] = "kim"
    await visitor.sign_in()
    assert (await visitor.http.post(unknown, data={"csrf": csrf})).status_code == 403


async def test_browser_without_cookies_is_told_once(visitor: Visitor) -> None:
    responses: list[int] = []
    async with another_client(visitor.site) as browser:
        response = await browser.get(PAGE)
        response = await browser.get(response.headers["location"])
        while response.is_redirect and len(responses) < 5:
            browser.cookies.clear()
            back = visitor.sign_in_at_provider(response)
            response = await browser.get("/sign-in/callback", params=back)
            responses.append(response.status_code)
    assert responses == [303, 400]
    assert "did not send back the cookie" in response.text
    assert 'href="/sign-in?next=/requests%3Fsearch%3Dacme"' in response.text
    assert visitor.provider.token_requests == []


async def test_another_site_cannot_sign_a_person_in(
    visitor: Visitor, new_visitor: NewVisitor
) -> None:
    attacker = await new_visitor()
    visitor.provider.token_changes["sub"] = "attacker"
    theirs = await attacker.start_sign_in("/requests/new")

    response = await visitor.open_callback(**theirs)
    assert await visitor.session() is None
    visitor.provider.token_changes["sub"] = "victim"
    again = visitor.sign_in_at_provider(response)
    assert again["state"] != theirs["state"]
    assert visitor.provider.token_requests == []  # the attacker's code is not used
    await visitor.open_callback(**again)
    assert (await visitor.partner()).subject == "victim"

    assert (await visitor.open_callback(**theirs)).headers["location"] == "/requests/new"
    assert (await visitor.partner()).subject == "victim"
    assert len(visitor.provider.token_requests) == 1


async def test_signed_in_person_is_never_told_otherwise(visitor: Visitor) -> None:
    await visitor.sign_in()
    session = await visitor.open_session()
    for query in ({}, {"state": "unknown"}, {"error": "access_denied"}):
        assert (await visitor.open_callback(**query)).headers["location"] == "/"
    state = (await visitor.start_sign_in(PAGE))["state"]
    response = await visitor.open_callback(state=state, error="access_denied")
    assert response.status_code == 403
    assert "You are not signed in" not in response.text
    assert "You are still signed in as <bdi>Pat Lee</bdi>." in response.text
    assert f'href="{PAGE}"' in response.text
    assert await visitor.open_session() == session


@pytest.mark.parametrize("ours", [True, False])
async def test_error_of_the_provider_does_not_begin_again(visitor: Visitor, ours: bool) -> None:
    """Some providers send an error without the state. A provider may also fail immediately."""
    state = (await visitor.start_sign_in(PAGE))["state"] if ours else ""
    visitor.http.cookies.clear()
    response = await visitor.open_callback(state=state, error="access_denied")
    await visitor.check_rejected(response, "did not let you in", 403)


async def test_provider_cannot_read_the_page(visitor: Visitor) -> None:
    state = (await visitor.start_sign_in(PAGE))["state"]
    parts = [base64.urlsafe_b64decode(part + "==") for part in state.split(".")]
    assert all(b"acme" not in part for part in [state.encode(), *parts])


async def test_longest_page_fits_into_the_headers(visitor: Visitor) -> None:
    """A proxy such as nginx accepts 4 KB of headers in a response by default."""
    page = "/" + "".join(f"{number}'" for number in range(1000))[:1000]
    response = await visitor.http.get("/sign-in", params={"next": page})
    head = [len(name) + len(value) + len(": \r\n") for name, value in response.headers.raw]
    assert sum(head) < 4000
    back = visitor.sign_in_at_provider(response)
    assert (await visitor.open_callback(**back)).headers["location"] == page
