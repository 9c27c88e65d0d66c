"""Who calls the API, by an access token of the identity provider (RFC 6750, RFC 9068)."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joserfc import jwt
from joserfc.errors import ClaimError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from smart_accounts.settings import Settings
from smart_accounts.store.partners import Partners
from smart_accounts.web.auth.claims import partner_from
from smart_accounts.web.auth.id_tokens import SignInFailed
from smart_accounts.web.auth.issuer import IssuerKeys
from smart_accounts.web.auth.session import Partner

# Never "none", and no HS256: a public key would be its secret.
ALGORITHMS = ("RS256", "PS256", "ES256")
SCOPE = "smart-accounts"
LEEWAY_SECONDS = 60  # clocks differ

_scheme = HTTPBearer(
    scheme_name="accessToken",
    bearerFormat="JWT",
    description=(
        "An access token of the identity provider, a JWT signed with RS256, PS256 or ES256, for"
        f" this service's audience, with the scope `{SCOPE}` and the claims `sub`, `email`,"
        " `email_verified` and `name`. They name the requester."
    ),
    auto_error=False,
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_scheme)]


class Bearer:
    """Tells the partner whose token a call carries."""

    def __init__(self, settings: Settings, partners: Partners) -> None:
        self._settings = settings
        self._partners = partners
        self._issuer = settings.oidc_issuer
        self._keys = IssuerKeys(self._issuer) if self._issuer else None
        audience = settings.oidc_audience or settings.oidc_client_id
        self._rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": self._issuer or ""},
            sub={"essential": True},
            aud={"essential": True, "value": audience or ""},
            exp={"essential": True},
        )

    async def partner(self, credentials: Credentials) -> Partner:
        """The caller: a dependency.

        Raises:
            HTTPException: 401, there is no token or it is not genuine, not ours, or over; 403, it
                lacks the scope or names nobody who may make requests.
            Unavailable: the identity provider does not answer.
        """
        if self._keys is None or self._issuer is None:
            raise _refused(401, "No token can be valid: no identity provider is set up.")
        if credentials is None:
            raise _refused(401, "There is no bearer token.")
        claims = await self._claims(credentials.credentials, self._keys)
        if SCOPE not in _scopes(claims.get("scope")):
            raise _refused(403, f"The token lacks the scope {SCOPE}.", "insufficient_scope")
        return await self._person(claims, self._issuer)

    async def _claims(self, token: str, issuer_keys: IssuerKeys) -> dict[str, Any]:
        keys = await issuer_keys.newest()
        try:
            try:
                claims = _verified(token, keys)
            except InvalidKeyIdError:  # the issuer may have a new key
                claims = _verified(token, await issuer_keys.newest(than=keys))
            self._rules.validate(claims)
        except ClaimError as error:
            detail = f"The token is refused: {error.error.replace('_', ' ')}, {error.claim}."
            raise _refused(401, detail, "invalid_token") from None
        except (JoseError, ValueError, TypeError, LookupError, AttributeError) as error:
            why = error.error.replace("_", " ") if isinstance(error, JoseError) else "no JWT"
            raise _refused(401, f"The token is refused: {why}.", "invalid_token") from None
        return claims

    async def _person(self, claims: dict[str, Any], issuer: str) -> Partner:
        try:
            partner = partner_from(claims, self._settings)
        except SignInFailed as failed:
            raise _refused(403, f"The token names no requester: {failed}.") from None
        if partner.company:
            return partner
        kept = await self._partners.company_of(issuer, partner.subject)
        if kept is None:
            detail = "The token names no company; sign in on the pages once and name yours."
            raise _refused(403, detail)
        return replace(partner, company=kept)


def _verified(token: str, keys: KeySet) -> dict[str, Any]:
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    return jwt.decode(token, keys, registry=registry).claims


def _scopes(scope: object) -> list[Any]:
    """Of a token: words parted by blanks (RFC 9068), or a list."""
    return scope.split() if isinstance(scope, str) else scope if isinstance(scope, list) else []


def _refused(status: int, detail: str, error: str | None = None) -> HTTPException:
    challenge = "Bearer" + (f' error="{error}"' if error else "")
    return HTTPException(status, detail, headers={"WWW-Authenticate": challenge})
