"""How the claims of the provider become a partner."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import select
from starlette.responses import JSONResponse

from smart_accounts.contract.fields import MAX_NAME, Name
from smart_accounts.store import tables
from smart_accounts.web.auth.claims import cleaned
from tests.support.identity_provider import NewVisitor, Visitor
from tests.support.messages import ANY_CHARACTER

NAME_RULE = TypeAdapter[str](Name)


@pytest.mark.parametrize("verified", [False, "false", "", 1, ["true"]])
async def test_unverified_email_is_rejected(visitor: Visitor, verified: object) -> None:
    visitor.provider.person["email_verified"] = verified
    response = await visitor.sign_in()
    await visitor.check_rejected(response, "has not verified your email address", 403)
    assert "Verify it in your account" in response.text


@pytest.mark.parametrize("userinfo", [{}, {"email_verified": None}])
async def test_absent_verification_is_not_called_unverified(
    visitor: Visitor, userinfo: dict[str, None]
) -> None:
    del visitor.provider.person["email_verified"]
    visitor.provider.userinfo = {"sub": "pat", **userinfo}
    response = await visitor.sign_in()
    await visitor.check_rejected(response, "does not say whether it has verified", 403)
    assert "has not verified" not in response.text


async def test_verification_as_a_text_counts(visitor: Visitor) -> None:
    visitor.provider.person["email_verified"] = "true"
    assert (await visitor.sign_in()).status_code == 303
    assert (await visitor.partner()).email_verified


async def test_absent_verification_can_be_trusted(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor(oidc_trust_email=True)
    visitor.provider.person["email_verified"] = None
    email = "trusted@partner.example"
    visitor.provider.token_changes |= {"sub": "trusted", "email": email}
    assert (await visitor.sign_in()).status_code == 303
    trusted = await visitor.partner()
    assert not trusted.email_verified
    # The address is still free for the person whose provider verifies it.
    assert await address_owner(visitor, email) is None
    visitor.provider.person["email_verified"] = True
    await visitor.sign_in()
    verified = await visitor.partner()
    assert verified.email_verified
    assert await address_owner(visitor, email) == "trusted"


@pytest.mark.parametrize("verified", [False, "false", 1])
async def test_denied_verification_is_never_trusted(
    new_visitor: NewVisitor, verified: object
) -> None:
    visitor = await new_visitor(oidc_trust_email=True)
    visitor.provider.person["email_verified"] = verified
    await visitor.check_rejected(
        await visitor.sign_in(), "has not verified your email address", 403
    )


async def address_owner(visitor: Visitor, email: str) -> str | None:
    owners = tables.address_owners.c
    async with visitor.site.store.engine.connect() as connection:
        found: str | None = await connection.scalar(
            select(owners.subject).where(owners.email == email)
        )
        return found


@pytest.mark.parametrize(
    ("claim", "value", "reason"),
    [
        ("email", None, "Your email address is required."),
        ("email", "a@b.example, c@d.example", "Your email address must be one email address"),
        ("name", None, "Your name is required."),
        ("name", "", "Your name must not be empty."),
        ("name", "<\u202e>", "Your name must not be empty."),
        ("name", ["Pat"], "Your name must be text."),
        ("company", {"id": 5}, "Your company must be text."),
        ("sub", "s" * 256, "Your identifier"),
        ("sub", "pat\n", "Your identifier must not contain control characters."),
    ],
)
async def test_invalid_claim_is_named(
    visitor: Visitor, claim: str, value: object, reason: str
) -> None:
    visitor.provider.token_changes[claim] = value
    await visitor.check_rejected(await visitor.sign_in(), reason, 403)


@pytest.mark.parametrize("claim", ["name", "company"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Pat Lee <Partner Ltd>", "Pat Lee Partner Ltd"),
        ("\u202aPat\u202c\u200b Lee\u2069", "Pat Lee"),
        (" Pat\r\n\tLee\x00\u2028", "Pat Lee"),
        ("Zoe\u0308", "Zoë"),
        ("x" * 5000, "x" * 120),
        ("x" * 119 + " Lee", "x" * 119),
        ("e" + "\u0323" * 500, "ẹ" + "\u0323" * 30),
    ],
)
async def test_name_and_company_are_cleaned(
    visitor: Visitor, claim: str, value: str, expected: str
) -> None:
    visitor.provider.token_changes[claim] = value
    assert (await visitor.sign_in()).status_code == 303
    assert getattr(await visitor.partner(), claim) == expected


@given(
    st.text(ANY_CHARACTER, max_size=200)
    | st.text("<>\u202e\u200d\u200e \u0301\u0958a", max_size=200)
)
@settings(max_examples=200)
def test_cleaned_name_follows_the_field_rule(name: str) -> None:
    found = cleaned(name)
    assert len(found) <= MAX_NAME
    assert not found or NAME_RULE.validate_python(found)


@pytest.mark.parametrize(
    ("company", "expected"),
    [
        (["Partner Ltd", "Other Ltd"], "Partner Ltd"),
        ([None, {"id": 5}, "", "<\u202e>", "Partner <Ltd>", "Other Ltd"], "Partner Ltd"),
        ([], ""),
        ([["Partner Ltd"]], ""),
        ("\u202e", ""),
        (" ", ""),
    ],
)
async def test_first_usable_company_counts(
    visitor: Visitor, company: object, expected: str
) -> None:
    """Without a company, the person is asked."""
    visitor.provider.token_changes |= {"sub": "new-partner", "company": company}
    location = (await visitor.sign_in("/requests")).headers["location"]
    assert location == ("/requests" if expected else "/sign-in/company?next=%2Frequests")
    assert (await visitor.partner()).company == expected


async def test_userinfo_adds_missing_claims(visitor: Visitor) -> None:
    visitor.provider.userinfo = visitor.provider.person | {"sub": "pat", "name": "Pat of userinfo"}
    visitor.provider.person = {"name": "Pat Lee"}
    assert (await visitor.sign_in()).status_code == 303
    assert (await visitor.partner()).email == "pat@partner.example"
    assert (await visitor.partner()).name == "Pat Lee"


@pytest.mark.parametrize("subject", [{"sub": "kim"}, {}], ids=str)
async def test_userinfo_about_another_person_is_rejected(
    visitor: Visitor, subject: dict[str, str]
) -> None:
    visitor.provider.userinfo = visitor.provider.person | subject
    visitor.provider.person = {}
    await visitor.check_rejected(await visitor.sign_in(), "could not verify")


@pytest.mark.parametrize("status", [401, 403])
async def test_sign_in_works_without_access_to_userinfo(visitor: Visitor, status: int) -> None:
    visitor.provider.responses["/userinfo"] = JSONResponse({}, status)
    del visitor.provider.person["roles"]
    assert (await visitor.sign_in()).status_code == 303
    visitor.provider.person = {}
    visitor.http.cookies.clear()
    await visitor.check_rejected(await visitor.sign_in(), "Your email address is required.", 403)


@pytest.mark.parametrize(
    ("roles", "is_operator"),
    [
        (["reader", "smart-accounts-operator"], True),
        ("smart-accounts-operator", True),
        ("smart-accounts-operators", False),
        (["reader"], False),
        ([["smart-accounts-operator"]], False),
        ({"smart-accounts-operator": True}, False),
        (None, False),
    ],
)
async def test_operator_needs_the_role(visitor: Visitor, roles: object, is_operator: bool) -> None:
    visitor.provider.person["roles"] = roles
    await visitor.sign_in()
    assert (await visitor.partner()).is_operator is is_operator


async def test_settings_name_the_claims(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor(
        oidc_company_claim="https://partner.example/org",
        oidc_operator_claim="groups",
        oidc_operator_role="ops",
    )
    visitor.provider.person = {
        name: value for name, value in visitor.provider.person.items() if name != "company"
    } | {"https://partner.example/org": "Org Ltd", "groups": ["ops"]}
    await visitor.sign_in()
    assert (await visitor.partner()).company == "Org Ltd"
    assert (await visitor.partner()).is_operator
