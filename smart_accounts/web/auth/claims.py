"""Turn the identity provider's claims about a person into a partner."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.fields import EmailAddress, Name
from smart_accounts.contract.identity import MAX_PART
from smart_accounts.settings import Settings
from smart_accounts.store.sessions import Partner
from smart_accounts.web.auth.login_attempt import SignInFailed

_LABELS = {
    "subject": "identifier",
    "email": "email address",
    "name": "name",
    "company": "company",
}


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("hidden_characters", "must not contain control characters")
    return value


class _Person(BaseModel):
    """The field rules of a requester. The company is asked for later if it is missing."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    subject: Annotated[str, Field(min_length=1, max_length=MAX_PART), AfterValidator(_printable)]
    email: EmailAddress
    name: Name
    company: Name | None


def wanted_claims(settings: Settings) -> set[str]:
    """Return the names of the claims that we use."""
    own = {settings.oidc_company_claim, settings.oidc_operator_claim}
    return {"email", "email_verified", "name"} | own


def partner_from(claims: dict[str, Any], settings: Settings) -> Partner:
    """Return the partner whom the claims describe. ``company`` is empty if they have none.

    Raises:
        SignInFailed: a claim is missing or breaks a field rule, or the email address is not
            verified.
    """
    given: dict[str, Any] = {
        "subject": claims.get("sub"),
        "company": claims.get(settings.oidc_company_claim) or None,
        **{name: claims[name] for name in ("email", "name") if name in claims},
    }
    try:
        person = _Person.model_validate(given, strict=True)
    except ValidationError as error:
        errors = field_errors(error)
        raise SignInFailed(
            "claims",
            "; ".join(each.field for each in errors),
            tuple(f"Your {_LABELS[each.field]} {each.message}." for each in errors),
        ) from None
    is_verified = claims.get("email_verified") is True
    if not (is_verified or (settings.oidc_trust_email and "email_verified" not in claims)):
        # An address that is not verified may belong to somebody else.
        raise SignInFailed("email", "the address is not verified")
    return Partner(
        issuer=claims["iss"],  # verified before, and always there
        subject=person.subject,
        email=person.email,
        name=person.name,
        company=person.company or "",
        email_verified=is_verified,
        is_operator=_has(claims.get(settings.oidc_operator_claim), settings.oidc_operator_role),
    )


def _has(roles: object, role: str) -> bool:
    return role in roles if isinstance(roles, list) else roles == role
