"""The one question: which company, where the identity provider does not know it."""

from typing import Any

import pytest

from smart_accounts.contract.messages import Requester


@pytest.fixture
async def visitor(visit: Any, request: pytest.FixtureRequest) -> Any:
    """Somebody new without a company."""
    visitor = await visit()
    del visitor.provider.person["company"]
    visitor.provider.token["sub"] = request.node.name
    return visitor


async def answers(visitor: Any, company: str, **more: str) -> Any:
    form = {"csrf": visitor.session.csrf, "company": company, "next": "/requests/new"} | more
    return await visitor.http.post("/sign-in/company", data=form)


async def test_it_is_asked_once_and_kept(visitor: Any) -> None:
    sent = await visitor.signs_in("/requests/new")
    assert sent.headers["location"] == "/sign-in/company?next=%2Frequests%2Fnew"
    asked = await visitor.http.get(sent.headers["location"])
    assert asked.status_code == 200
    assert "Which company are you with?" in asked.text
    assert 'name="next" value="/requests/new"' in asked.text
    csrf, until = visitor.session.csrf, visitor.session.until

    done = await answers(visitor, "  Partner   & Söhne ")
    assert (done.status_code, done.headers["location"]) == (303, "/requests/new")
    assert visitor.session.partner.requester == Requester(
        email="pat@partner.example", name="Pat Lee", company="Partner & Söhne"
    )
    # The session is the one it was: it ends when it would have.
    assert (visitor.session.csrf, visitor.session.until) == (csrf, until)

    visitor.http.cookies.clear()
    assert (await visitor.signs_in("/requests")).headers["location"] == "/requests"
    assert visitor.session.partner.company == "Partner & Söhne"


@pytest.mark.parametrize(
    ("company", "says"),
    [
        ("", "Your company must not be empty."),
        ("<b>", "Your company must not contain &lt; or &gt;."),
        ("x" * 121, "Your company must have at most 120 characters."),
        ("a\u202eb", "Your company must not contain control or invisible characters."),
    ],
)
async def test_a_bad_answer_is_told_and_kept_to_be_put_right(
    visitor: Any, company: str, says: str
) -> None:
    await visitor.signs_in()
    answer = await answers(visitor, company)
    assert answer.status_code == 422
    assert says in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert 'name="next" value="/requests/new"' in answer.text
    if company.startswith("x"):
        assert f'value="{company}"' in answer.text
    assert visitor.session.partner.company == ""


async def test_the_first_answer_stays(visitor: Any) -> None:
    await visitor.signs_in()
    cookie = visitor.http.cookies["session"]
    await answers(visitor, "First Ltd")
    assert (await answers(visitor, "Second Ltd")).headers["location"] == "/requests/new"
    assert visitor.session.partner.company == "First Ltd"
    visitor.keeps(cookie)  # another tab, still without
    await answers(visitor, "Third Ltd")
    assert visitor.session.partner.company == "First Ltd"


async def test_nobody_takes_another_company_than_the_providers(visitor: Any) -> None:
    visitor.provider.person["company"] = "Partner Ltd"
    await visitor.signs_in()
    assert (await answers(visitor, "Somebody Else Ltd")).headers["location"] == "/requests/new"
    assert visitor.session.partner.company == "Partner Ltd"
    subject = visitor.session.partner.subject
    assert await visitor.site.store.partners.company_of(visitor.provider.url, subject) is None


async def test_a_partner_of_another_provider_is_another_partner(visitor: Any) -> None:
    await visitor.signs_in()
    await answers(visitor, "Partner Ltd")
    partners, subject = visitor.site.store.partners, visitor.session.partner.subject
    assert await partners.company_of(visitor.provider.url, subject) == "Partner Ltd"
    assert await partners.company_of("https://other.example", subject) is None
    assert await partners.company_of(visitor.provider.url, "another") is None


async def test_a_form_from_elsewhere_is_not_taken(visitor: Any) -> None:
    await visitor.signs_in()
    assert (await answers(visitor, "Evil Ltd", csrf="x")).status_code == 403
    assert visitor.session.partner.company == ""


async def test_it_leads_to_no_other_site(visitor: Any) -> None:
    await visitor.signs_in()
    page = await visitor.http.get("/sign-in/company", params={"next": "//evil.example"})
    assert 'name="next" value="/"' in page.text
    answer = await answers(visitor, "Partner Ltd", next="https://evil.example/")
    assert answer.headers["location"] == "/"
    there = await visitor.http.get("/sign-in/company", params={"next": "//evil.example"})
    assert there.headers["location"] == "/"


async def test_who_is_not_signed_in_is_not_asked(visitor: Any) -> None:
    assert (await visitor.http.get("/sign-in/company")).status_code == 303
    form = {"company": "Partner Ltd"}
    assert (await visitor.http.post("/sign-in/company", data=form)).status_code == 401
