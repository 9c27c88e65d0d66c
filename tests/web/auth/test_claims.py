"""From claims to a partner."""

from typing import Any

import pytest
from starlette.responses import JSONResponse


@pytest.mark.parametrize("verified", [False, None, "true", 1])
async def test_an_address_that_is_not_verified_is_not_taken(visitor: Any, verified: Any) -> None:
    visitor.provider.person["email_verified"] = verified
    answer = await visitor.signs_in()
    visitor.stays_out(answer, "has not verified your email address", 403)
    assert "Verify it in your account" in answer.text


@pytest.mark.parametrize(
    ("claim", "value", "says"),
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
    ],
)
async def test_a_claim_that_breaks_a_field_rule_is_told(
    visitor: Any, claim: str, value: Any, says: str
) -> None:
    visitor.provider.token[claim] = value
    visitor.stays_out(await visitor.signs_in(), says, 403)


async def test_claims_that_the_id_token_lacks_come_from_userinfo(visitor: Any) -> None:
    visitor.provider.userinfo = visitor.provider.person | {"sub": "pat", "name": "Pat from there"}
    visitor.provider.person = {"name": "Pat Lee"}
    assert (await visitor.signs_in()).status_code == 303
    assert visitor.session.partner.email == "pat@partner.example"
    assert visitor.session.partner.name == "Pat Lee"


async def test_userinfo_about_somebody_else_is_not_taken(visitor: Any) -> None:
    visitor.provider.userinfo = visitor.provider.person | {"sub": "kim"}
    visitor.provider.person = {}
    visitor.stays_out(await visitor.signs_in(), "could not make sure")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_provider_that_keeps_userinfo_to_itself_has_said_all(
    visitor: Any, status: int
) -> None:
    visitor.provider.answers["/userinfo"] = JSONResponse({}, status)
    del visitor.provider.person["roles"]
    assert (await visitor.signs_in()).status_code == 303
    visitor.provider.person = {}
    visitor.http.cookies.clear()
    visitor.stays_out(await visitor.signs_in(), "Your email address is required.", 403)


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
async def test_an_operator_is_who_has_the_role(visitor: Any, roles: Any, is_operator: bool) -> None:
    visitor.provider.person["roles"] = roles
    await visitor.signs_in()
    assert visitor.session.partner.is_operator is is_operator


async def test_claims_may_be_named_otherwise(visit: Any) -> None:
    visitor = await visit(
        oidc_company_claim="https://partner.example/org",
        oidc_operator_claim="groups",
        oidc_operator_role="ops",
    )
    visitor.provider.person = {
        name: value for name, value in visitor.provider.person.items() if name != "company"
    } | {"https://partner.example/org": "Org Ltd", "groups": ["ops"]}
    await visitor.signs_in()
    assert visitor.session.partner.company == "Org Ltd"
    assert visitor.session.partner.is_operator
