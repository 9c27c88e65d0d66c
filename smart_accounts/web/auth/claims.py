"""Turn the identity provider's claims about a person into a partner."""

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from smart_accounts.contract.characters import HIDDEN, JOINERS, MARKS
from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.fields import (
    MAX_EXCESS,
    MAX_MARKS,
    MAX_NAME,
    EmailAddress,
    Name,
)
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

    The person cannot change the name and the company here, so what breaks a field rule is removed.

    Raises:
        SignInFailed: a claim is missing or breaks a field rule, or the email address is not
            verified.
    """
    given: dict[str, Any] = {
        "subject": claims.get("sub"),
        "company": _company(claims.get(settings.oidc_company_claim)),
        **{name: claims[name] for name in ("email", "name") if name in claims},
    }
    if isinstance(given.get("name"), str):
        given["name"] = cleaned(given["name"])
    try:
        person = _Person.model_validate(given, strict=True)
    except ValidationError as error:
        errors = field_errors(error)
        raise SignInFailed(
            "claims",
            "; ".join(each.field for each in errors),
            tuple(f"Your {_LABELS[each.field]} {each.message}." for each in errors),
        ) from None
    # An address that is not verified may belong to somebody else.
    is_verified = _is_verified(claims)
    if is_verified is None and not settings.oidc_trust_email:
        raise SignInFailed(
            "email-unstated", "the provider does not say whether the address is verified"
        )
    if is_verified is False:
        raise SignInFailed("email", "the address is not verified")
    return Partner(
        issuer=claims["iss"],  # verified before, and always there
        subject=person.subject,
        email=person.email,
        name=person.name,
        company=person.company or "",
        email_verified=is_verified is True,
        is_operator=_has(claims.get(settings.oidc_operator_claim), settings.oidc_operator_role),
    )


def _is_verified(claims: dict[str, Any]) -> bool | None:
    """Return whether the email address is verified, or None if the provider does not say."""
    stated = claims.get("email_verified")
    return None if stated is None else stated is True or stated == "true"  # some send a text


def _company(claim: object) -> object:
    """Return the company, or the first usable one of a list. None means that there is none."""
    if isinstance(claim, list):
        claim = next((each for each in claim if isinstance(each, str) and cleaned(each)), None)
    return (cleaned(claim) if isinstance(claim, str) else claim) or None


def cleaned(name: str) -> str:
    """Return the name without what the field rule ``Name`` rejects."""
    kept, marks = "", 0
    for char in unicodedata.normalize("NFC", name[: MAX_NAME * MAX_EXCESS]):
        if char in "<>" or char.isspace():
            char = " "  # noqa: PLW2901 - the character that is kept
        elif HIDDEN.match(char):
            continue
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks <= MAX_MARKS:
            kept += char
    name = " ".join(kept.split())[:MAX_NAME].strip()
    return name if name.strip(JOINERS + MARKS + " ") else ""


def _has(roles: object, role: str) -> bool:
    return role in roles if isinstance(roles, list) else roles == role
