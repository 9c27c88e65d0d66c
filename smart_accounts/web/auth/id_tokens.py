"""ID tokens: whether one is what the provider told us, now, about the person before us."""

from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from smart_accounts.errors import Rejected
from smart_accounts.web.auth.issuer import usable_keys

LEEWAY_SECONDS = 60  # clocks differ

# Signatures by private keys. Never "none", and no HS256: its key would be our client secret.
ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
]


class SignInFailed(Rejected):
    """Nobody is signed in; ``problem`` names the part of the page that says why."""

    def __init__(self, problem: str, why: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(f"{problem}: {why}")
        self.problem = problem
        self.details = details


def verified_claims(
    token: object, keys: Any, *, issuer: str, client_id: str, nonce: str
) -> dict[str, Any]:
    """The claims of an ID token (OpenID Connect Core 1.0, section 3.1.3.7).

    Raises:
        SignInFailed: the token is not signed by ``keys``, not from ``issuer``, not for
            ``client_id``, not of this attempt, over, or not there.
    """
    if not isinstance(token, str):
        raise SignInFailed("token", "there is no ID token")
    rules = jwt.JWTClaimsRegistry(
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        sub={"essential": True},
        aud={"essential": True, "value": client_id},
        exp={"essential": True},
        iat={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    try:
        claims = jwt.decode(token, usable_keys(keys), registry=registry).claims
        rules.validate(claims)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise SignInFailed("token", f"{type(error).__name__} {error}") from error
    # With several audiences the token may be meant for the keeping of another one.
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise SignInFailed("token", "it was issued to another client")
    return claims
