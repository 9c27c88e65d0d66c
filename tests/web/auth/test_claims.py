"""How the claims of the provider become a partner."""

import pytest
from sqlalchemy import select
from starlette.responses import JSONResponse

from smart_accounts.store import tables
from tests.support.identity_provider import NewVisitor, Visitor


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_unverified_email_is_rejected(visitor: Visitor, verified: object) -> None:
    visitor.provider.person["email_verified"] = verified
    response = await visitor.sign_in()
    await visitor.check_rejected(response, "has not verified your email address", 403)
    assert "Verify it in your account" in response.text


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


@pytest.mark.parametrize("verified", [False, "true", 1])
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
        ("name", "<b>Pat</b>", "Your name must not contain &lt; or &gt;."),
        ("name", "x" * 121, "Your name must have at most 120 characters."),
        ("name", ["Pat"], "Your name must be text."),
        ("company", "Part\u202ener", "Your company must not contain control"),
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
