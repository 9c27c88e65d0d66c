"""The OpenID provider that partners sign in at.

Source: OpenID Connect Core 1.0, authorization code flow, with PKCE (RFC 7636, S256). What the
provider says about itself is asked for each time: sign-ins are rare, it may change its keys, and
nobody is sent to a provider that is away.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import AnyHttpUrl, BaseModel, ValidationError

from smart_accounts.errors import BadSetting, Unavailable
from smart_accounts.settings import PREFIX, Settings
from smart_accounts.web.auth.id_tokens import SignInFailed, verified_claims
from smart_accounts.web.auth.login_attempt import LoginAttempt

CALLBACK = "/sign-in/callback"
ANSWER_SECONDS = 4  # for all that one page asks of the provider
SCOPE = "openid email profile"


class ProviderDown(Unavailable):
    """The provider does not answer, or not as one; try again later."""


class _Configuration(BaseModel):
    """What we need of the provider's ``/.well-known/openid-configuration``."""

    issuer: str
    authorization_endpoint: AnyHttpUrl
    token_endpoint: AnyHttpUrl
    jwks_uri: AnyHttpUrl
    userinfo_endpoint: AnyHttpUrl | None = None
    end_session_endpoint: AnyHttpUrl | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Provider:
    """The provider at ``issuer``, to which we are the client ``client_id``.

    Every method raises ``ProviderDown`` if it does not answer within ``ANSWER_SECONDS``.
    """

    def __init__(
        self,
        issuer: str,
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
        """Where the person signs in, to be sent back to ``CALLBACK``."""
        async with self._answering():
            configuration = await self._configuration()
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

    async def sign_out_url(self) -> str | None:
        """Where the person ends the session at the provider, if that can be done."""
        async with self._answering():
            configuration = await self._configuration()
        if configuration.end_session_endpoint is None:
            return None
        return _with_query(
            configuration.end_session_endpoint,
            client_id=self._client_id,
            post_logout_redirect_uri=self._public_url + "/",
        )

    async def claims(self, code: str, attempt: LoginAttempt, wanted: set[str]) -> dict[str, Any]:
        """What the provider says about the person it gave us ``code`` for.

        Userinfo is asked where the ID token lacks one of the ``wanted`` claims, for those it lacks.

        Raises:
            SignInFailed: it gave us no token, or one that is not for us and this attempt.
        """
        async with self._answering():
            configuration = await self._configuration()
            tokens = await self._tokens(configuration, code, attempt.verifier)
            keys = await self._json(configuration.jwks_uri)
            claims = verified_claims(
                tokens.get("id_token"),
                keys,
                issuer=self.issuer,
                client_id=self._client_id,
                nonce=attempt.nonce,
            )
            if wanted <= set(claims) or not configuration.userinfo_endpoint:
                return claims
            more = await self._userinfo(configuration.userinfo_endpoint, tokens)
            if more.get("sub", claims["sub"]) != claims["sub"]:
                raise SignInFailed("token", "userinfo is about somebody else")
            return more | claims

    async def _configuration(self) -> _Configuration:
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            found = _Configuration.model_validate(await self._json(url))
        except ValidationError as error:
            wrong = ", ".join(str(each["loc"][0]) for each in error.errors())
            raise ProviderDown(f"its configuration is none: {wrong}") from None
        if found.issuer != self.issuer:
            raise ProviderDown(f"it names itself {found.issuer!r}, not as {PREFIX}OIDC_ISSUER")
        return found

    async def _tokens(
        self, configuration: _Configuration, code: str, verifier: str
    ) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._public_url + CALLBACK,
            "code_verifier": verifier,
        }
        auth = httpx.Auth()  # sends nothing of its own
        if self._client_secret is None:
            form["client_id"] = self._client_id
        elif "client_secret_basic" in configuration.token_endpoint_auth_methods_supported:
            # Each form-encoded first (RFC 6749, 2.3.1): either may hold a colon.
            auth = httpx.BasicAuth(quote(self._client_id, ""), quote(self._client_secret, ""))
        else:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        answer = await self._http.post(str(configuration.token_endpoint), data=form, auth=auth)
        if answer.status_code in (400, 401):
            error = re.search(r'"error"\s*:\s*"(\w{1,60})"', answer.text)
            raise SignInFailed("token", f"the code was refused: {error and error[1]}")
        return _object(answer)

    async def _userinfo(self, endpoint: AnyHttpUrl, tokens: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {tokens.get('access_token')}"}
        answer = await self._http.get(str(endpoint), headers=headers)
        if answer.status_code in (401, 403):
            return {}  # it has no more to say to us
        return _object(answer)

    async def _json(self, url: AnyHttpUrl | str) -> dict[str, Any]:
        return _object(await self._http.get(str(url)))

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                yield
        except TimeoutError:
            raise ProviderDown(f"no answer within {ANSWER_SECONDS} s") from None
        except httpx.HTTPError as error:
            raise ProviderDown(type(error).__name__) from error


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json() if answer.is_success else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProviderDown(f"{answer.url.path} was answered {answer.status_code}, no JSON object")
    return found


def _with_query(endpoint: AnyHttpUrl, **query: str) -> str:
    return f"{endpoint}{'&' if endpoint.query else '?'}{urlencode(query)}"


@asynccontextmanager
async def open_provider(settings: Settings) -> AsyncIterator[Provider | None]:
    """The provider that the settings name, if they name one.

    Raises:
        BadSetting: they name half of one.
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
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS) as http:
        known = secret.get_secret_value() if secret else None
        yield Provider(issuer, client_id, known, settings.base_url, http)
