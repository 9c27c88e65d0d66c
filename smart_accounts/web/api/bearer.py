"""The caller of the API, from an access token of the identity provider (RFC 6750, RFC 9068)."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from smart_accounts.contract.names import API_SCOPE
from smart_accounts.store.sessions import Partner
from smart_accounts.web.auth.claims import partner_from
from smart_accounts.web.auth.issuer import InvalidToken, Issuer, UnknownKey, verified_claims
from smart_accounts.web.auth.login_attempt import SignInFailed
from smart_accounts.web.dependencies import Audit, Services, Web
from smart_accounts.web.security_log import Event, Outcome

# Never "none", and no HS256, which would take the public key as its secret.
ALGORITHMS = ("RS256", "PS256", "ES256")

_scheme = HTTPBearer(
    scheme_name="accessToken",
    bearerFormat="JWT",
    description=(
        "An access token of the identity provider: a JWT signed with RS256, PS256 or ES256, for"
        f" this service's audience, with the scope `{API_SCOPE}` and the claims `sub`, `email`,"
        " `email_verified` and `name`. The claims name the requester."
    ),
    auto_error=False,
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_scheme)]


class _Refused(HTTPException):
    """The token is missing or not valid (401), or does not give access (403)."""

    def __init__(self, status: int, reason: str, detail: str, error: str | None = None) -> None:
        challenge = "Bearer" + (f' error="{error}"' if error else "")
        super().__init__(status, detail, headers={"WWW-Authenticate": challenge})
        self.reason = reason


async def caller(request: Request, credentials: Credentials, web: Web, audit: Audit) -> Partner:
    """Return the partner whose token the call carries.

    Raises:
        HTTPException: 401, the token is missing or not valid; 403, it lacks the scope or does not
            name a requester.
        Unavailable: the identity provider is down.
    """
    try:
        partner = await _partner(credentials, web)
    except _Refused as refused:
        event = Event.TOKEN if refused.status_code == 401 else Event.SCOPE
        web.security_log.write(request, event, Outcome.FAILURE, refused.reason)
        raise
    request.state.partner = partner
    await audit.adopt_requests(partner)
    return partner


async def _partner(credentials: HTTPAuthorizationCredentials | None, web: Services) -> Partner:
    if web.provider is None:
        raise _Refused(
            401, "provider", "No token can be valid, because no identity provider is set up."
        )
    if credentials is None:
        raise _Refused(401, "missing", "The bearer token is missing.")
    issuer = web.provider.issuer
    audience = web.settings.oidc_audience or web.settings.oidc_client_id
    claims = await _claims(credentials.credentials, issuer, audience)
    if API_SCOPE not in _scopes(claims.get("scope")):
        raise _Refused(
            403, "scope", f"The token lacks the scope {API_SCOPE}.", "insufficient_scope"
        )
    try:
        partner = partner_from(claims, web.settings)
    except SignInFailed as failed:
        raise _Refused(403, "claims", f"The token names no requester: {failed}.") from None
    if partner.company:
        return partner
    company = await web.store.partners.company_of(issuer.url, partner.subject)
    if company is None:
        detail = "The token names no company. Sign in on the website once and enter your company."
        raise _Refused(403, "company", detail)
    return replace(partner, company=company)


Caller = Annotated[Partner, Depends(caller)]


async def _claims(token: str, issuer: Issuer, audience: str | None) -> dict[str, Any]:
    rules = {
        "iss": {"essential": True, "value": issuer.url},
        "aud": {"essential": True, "value": audience or ""},
    }
    keys = await issuer.cached_keys()
    try:
        try:
            return verified_claims(token, keys, ALGORITHMS, **rules)
        except UnknownKey:  # the issuer may have a new key
            newer = await issuer.cached_keys(newer_than=keys)
            return verified_claims(token, newer, ALGORITHMS, **rules)
    except InvalidToken as invalid:
        raise _Refused(
            401, "invalid", f"The token is rejected: {invalid}.", "invalid_token"
        ) from None


def _scopes(scope: object) -> list[Any]:
    """Return the scopes of a token. They are separated by spaces (RFC 9068) or in a list."""
    if isinstance(scope, str):
        return scope.split()
    return scope if isinstance(scope, list) else []
