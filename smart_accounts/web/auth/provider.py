"""Signing in at the OpenID provider.

Source: OpenID Connect Core 1.0, authorization code flow, with PKCE (RFC 7636, S256).
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import AnyHttpUrl

from smart_accounts.errors import BadSetting
from smart_accounts.settings import PREFIX, Settings
from smart_accounts.web.auth.issuer import (
    Configuration,
    InvalidToken,
    Issuer,
    json_object,
    responding_within,
    verified_claims,
)
from smart_accounts.web.auth.login_attempt import LoginAttempt, SignInFailed

CALLBACK = "/sign-in/callback"
TIMEOUT_SECONDS = 4  # for all calls to the provider that one page needs
SCOPE = "openid email profile"

# Signatures by private keys only. Never "none", and no HS256, whose key is our client secret.
ALGORITHMS = [
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
]


class Provider:
    """Signs people in at the issuer, where we are the client ``client_id``.

    Each method raises ``ProviderDown`` if the provider does not respond in time.
    """

    def __init__(
        self,
        issuer: Issuer,
        client_id: str,
        client_secret: str | None,
        public_url: str,
        http: httpx.AsyncClient,
    ) -> None:
        self.issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._public_url = public_url
        self._http = http

    async def sign_in_url(self, attempt: LoginAttempt) -> str:
        """Return the URL where the person signs in, and from which they return to ``CALLBACK``."""
        async with responding_within(TIMEOUT_SECONDS):
            configuration = await self.issuer.configuration()
        return _with_query(
            configuration.authorization_endpoint,
            response_type="code",
            client_id=self._client_id,
            redirect_uri=self._public_url + CALLBACK,
            scope=SCOPE,
            state=attempt.state,
            nonce=attempt.nonce,
            code_challenge=attempt.challenge,
            code_challenge_method="S256",
        )

    async def sign_out_url(self, id_token: str | None) -> str | None:
        """Return the URL where the person ends the session at the provider, if it has one.

        With the ID token of the sign-in, the provider knows which session to end.
        """
        async with responding_within(TIMEOUT_SECONDS):
            configuration = await self.issuer.configuration()
        if configuration.end_session_endpoint is None:
            return None
        return _with_query(
            configuration.end_session_endpoint,
            client_id=self._client_id,
            post_logout_redirect_uri=self._public_url + "/",
            **{"id_token_hint": id_token} if id_token else {},
        )

    async def claims(
        self, code: str, attempt: LoginAttempt, wanted: set[str]
    ) -> tuple[dict[str, Any], str]:
        """Return the claims about the person for whom ``code`` was issued, and the ID token.

        Claims in ``wanted`` that the ID token lacks are taken from the userinfo endpoint.

        Raises:
            SignInFailed: there is no ID token, or it is not valid for us and this attempt.
        """
        async with responding_within(TIMEOUT_SECONDS):
            configuration = await self.issuer.configuration()
            tokens = await self._tokens(configuration, code, attempt.verifier)
            claims = await self._id_token_claims(configuration, tokens.get("id_token"), attempt)
            if wanted <= set(claims) or not configuration.userinfo_endpoint:
                return claims, tokens["id_token"]
            more = await self._userinfo(configuration.userinfo_endpoint, tokens)
            if more and more.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0 §5.3.2
                raise SignInFailed("token", "userinfo is about another person, or names none")
            return more | claims, tokens["id_token"]

    async def _id_token_claims(
        self, configuration: Configuration, token: object, attempt: LoginAttempt
    ) -> dict[str, Any]:
        """Return the claims of an ID token (OpenID Connect Core 1.0 §3.1.3.7)."""
        try:
            claims = verified_claims(
                token,
                await self.issuer.keys(configuration),
                ALGORITHMS,
                iss={"essential": True, "value": self.issuer.url},
                aud={"essential": True, "value": self._client_id},
                iat={"essential": True},
                nonce={"essential": True, "value": attempt.nonce},
            )
        except InvalidToken as invalid:
            raise SignInFailed("token", str(invalid)) from None
        # A token for several audiences may be meant for another client. Then azp names that client.
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self._client_id) != self._client_id:
            raise SignInFailed("token", "it was issued to another client")
        return claims

    async def _tokens(
        self, configuration: Configuration, code: str, verifier: str
    ) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._public_url + CALLBACK,
            "code_verifier": verifier,
        }
        auth = httpx.Auth()  # sends no credentials
        if self._client_secret is None:
            form["client_id"] = self._client_id
        elif "client_secret_basic" in configuration.token_endpoint_auth_methods_supported:
            # Both parts are form-encoded first (RFC 6749 §2.3.1), because they may contain a colon.
            auth = httpx.BasicAuth(quote(self._client_id, ""), quote(self._client_secret, ""))
        else:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        response = await self._http.post(str(configuration.token_endpoint), data=form, auth=auth)
        if response.status_code in (400, 401):
            error = re.search(r'"error"\s*:\s*"(\w{1,60})"', response.text)
            raise SignInFailed("token", f"the code was rejected: {error and error[1]}")
        return json_object(response)

    async def _userinfo(self, endpoint: AnyHttpUrl, tokens: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {tokens.get('access_token')}"}
        response = await self._http.get(str(endpoint), headers=headers)
        if response.status_code in (401, 403):
            return {}  # our token does not give access to more claims
        return json_object(response)


def _with_query(endpoint: AnyHttpUrl, **query: str) -> str:
    return f"{endpoint}{'&' if endpoint.query else '?'}{urlencode(query)}"


@asynccontextmanager
async def open_provider(settings: Settings) -> AsyncIterator[Provider | None]:
    """Open the provider that is set, or yield None if no provider is set.

    Raises:
        BadSetting: a required setting of the provider is missing.
    """
    issuer, client_id = settings.oidc_issuer, settings.oidc_client_id
    secret = settings.oidc_client_secret
    if client_id is None and issuer is not None:
        raise BadSetting(f"bad settings: {PREFIX}OIDC_CLIENT_ID: is required with OIDC_ISSUER")
    if issuer is None and (client_id or secret):
        raise BadSetting(f"bad settings: {PREFIX}OIDC_ISSUER: is required to sign in")
    if issuer is None or client_id is None:
        yield None
        return
    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        client_secret = secret.get_secret_value() if secret else None
        yield Provider(Issuer(issuer, http), client_id, client_secret, settings.base_url, http)
