"""The page that asks for the company, where the identity provider does not know it."""

import httpx
import pytest

from smart_accounts.contract.messages import Requester
from tests.support.identity_provider import NewVisitor, Visitor


@pytest.fixture
async def visitor(new_visitor: NewVisitor, request: pytest.FixtureRequest) -> Visitor:
    """A new person without a company."""
    visitor = await new_visitor()
    del visitor.provider.person["company"]
    visitor.provider.token_changes["sub"] = request.node.name
    return visitor


async def send_company(visitor: Visitor, company: str, **changes: str) -> httpx.Response:
    csrf = (await visitor.open_session()).csrf
    form = {"csrf": csrf, "company": company, "next": "/requests/new"} | changes
    return await visitor.http.post("/sign-in/company", data=form)


async def test_company_is_asked_for_once(visitor: Visitor) -> None:
    sent = await visitor.sign_in("/requests/new")
    assert sent.headers["location"] == "/sign-in/company?next=%2Frequests%2Fnew"
    page = await visitor.http.get(sent.headers["location"])
    assert page.status_code == 200
    assert "Which company are you with?" in page.text
    assert 'name="next" value="/requests/new"' in page.text
    session = await visitor.open_session()

    done = await send_company(visitor, "  Partner   & Söhne ")
    assert (done.status_code, done.headers["location"]) == (303, "/requests/new")
    assert (await visitor.partner()).requester == Requester(
        email="pat@partner.example", name="Pat Lee", company="Partner & Söhne"
    )
    # The session stays the same and does not last longer.
    continued = await visitor.open_session()
    assert (continued.id, continued.csrf) == (session.id, session.csrf)
    assert continued.began_at == session.began_at

    visitor.http.cookies.clear()
    assert (await visitor.sign_in("/requests")).headers["location"] == "/requests"
    assert (await visitor.partner()).company == "Partner & Söhne"


@pytest.mark.parametrize(
    ("company", "message"),
    [
        ("", "Your company must not be empty."),
        ("<b>", "Your company must not contain &lt; or &gt;."),
        ("x" * 121, "Your company must have at most 120 characters."),
        ("a\u202eb", "Your company must not contain control or invisible characters."),
    ],
)
async def test_invalid_company_is_kept_in_the_form(
    visitor: Visitor, company: str, message: str
) -> None:
    await visitor.sign_in()
    response = await send_company(visitor, company)
    assert response.status_code == 422
    assert message in response.text
    assert 'aria-invalid="true"' in response.text
    assert 'name="next" value="/requests/new"' in response.text
    if company.startswith("x"):
        assert f'value="{company}"' in response.text
    assert (await visitor.partner()).company == ""


async def test_first_company_stays(visitor: Visitor) -> None:
    await visitor.sign_in()
    cookie = visitor.http.cookies["session"]
    await send_company(visitor, "First Ltd")
    assert (await send_company(visitor, "Second Ltd")).headers["location"] == "/requests/new"
    assert (await visitor.partner()).company == "First Ltd"
    visitor.set_session_cookie(cookie)  # another tab, which has the old cookie
    await send_company(visitor, "Third Ltd")
    assert (await visitor.partner()).company == "First Ltd"


async def test_company_of_the_provider_cannot_be_changed(visitor: Visitor) -> None:
    visitor.provider.person["company"] = "Partner Ltd"
    await visitor.sign_in()
    assert (await send_company(visitor, "Another Ltd")).headers["location"] == "/requests/new"
    assert (await visitor.partner()).company == "Partner Ltd"
    subject = (await visitor.partner()).subject
    assert await visitor.site.store.partners.company_of(visitor.provider.url, subject) is None


async def test_company_is_kept_per_provider_and_person(visitor: Visitor) -> None:
    await visitor.sign_in()
    await send_company(visitor, "Partner Ltd")
    partners, subject = visitor.site.store.partners, (await visitor.partner()).subject
    assert await partners.company_of(visitor.provider.url, subject) == "Partner Ltd"
    assert await partners.company_of("https://other.example", subject) is None
    assert await partners.company_of(visitor.provider.url, "another") is None


async def test_form_without_the_csrf_token_is_rejected(visitor: Visitor) -> None:
    await visitor.sign_in()
    assert (await send_company(visitor, "Evil Ltd", csrf="x")).status_code == 403
    assert (await visitor.partner()).company == ""


async def test_form_never_redirects_to_another_site(visitor: Visitor) -> None:
    await visitor.sign_in()
    page = await visitor.http.get("/sign-in/company", params={"next": "//evil.example"})
    assert 'name="next" value="/"' in page.text
    response = await send_company(visitor, "Partner Ltd", next="https://evil.example/")
    assert response.headers["location"] == "/"
    redirect = await visitor.http.get("/sign-in/company", params={"next": "//evil.example"})
    assert redirect.headers["location"] == "/"


async def test_page_needs_a_sign_in(visitor: Visitor) -> None:
    assert (await visitor.http.get("/sign-in/company")).status_code == 303
    form = {"company": "Partner Ltd"}
    assert (await visitor.http.post("/sign-in/company", data=form)).status_code == 401
