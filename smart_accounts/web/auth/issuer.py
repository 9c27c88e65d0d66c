"""The OpenID issuer: what it publishes about itself, and the tokens that it signs.

Sign-in and API use the same issuer. A sign-in fetches everything again, because sign-ins are rare
and the issuer may have changed its keys. The API caches the keys, so that calls rarely wait for the
issuer.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
from joserfc import jwt
from joserfc.errors import ClaimError, InvalidKeyIdError, JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from pydantic import AnyHttpUrl, BaseModel, ValidationError

from smart_accounts.errors import Unavailable
from smart_accounts.settings import PREFIX

# Pause between two fetches of the keys. For this time, the API still accepts a key that the issuer
# no longer publishes.
FRESH_SECONDS = 3600
# Pause after a failed fetch, or before a fetch because of an unknown key. Anybody can send tokens
# that name unknown keys, and not every such token may cause a fetch.
PAUSE_SECONDS = 10
CACHE_TIMEOUT_SECONDS = 2
LEEWAY_SECONDS = 60  # clocks differ

_log = logging.getLogger(__name__)


class ProviderDown(Unavailable):
    """The identity provider does not respond, or its response is not usable. Try again later."""


class InvalidToken(Exception):
    """A token is not signed by the issuer, not for us, or expired. The message says why."""


class UnknownKey(InvalidToken):
    """The token names a key that is not in the key set. The issuer may have a new key."""


class Configuration(BaseModel):
    """The part of ``/.well-known/openid-configuration`` that we use."""

    issuer: str
    authorization_endpoint: AnyHttpUrl
    token_endpoint: AnyHttpUrl
    jwks_uri: AnyHttpUrl
    userinfo_endpoint: AnyHttpUrl | None = None
    end_session_endpoint: AnyHttpUrl | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Issuer:
    """The issuer at ``url``. Source: OpenID Connect Discovery 1.0."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http
        self._keys = KeySet([])
        self._fetched_at = -math.inf
        self._last_fetch_failed = False
        self._fetching = asyncio.Lock()

    async def configuration(self) -> Configuration:
        """Fetch the configuration.

        Raises:
            ProviderDown: there is no configuration, or it belongs to another issuer.
        """
        url = self.url.rstrip("/") + "/.well-known/openid-configuration"
        try:
            found = Configuration.model_validate(json_object(await self._http.get(url)))
        except ValidationError as error:
            fields = ", ".join(str(each["loc"][0]) for each in error.errors())
            raise ProviderDown(f"missing or invalid in its configuration: {fields}") from None
        if found.issuer != self.url:
            raise ProviderDown(f"it calls itself {found.issuer!r}, unlike {PREFIX}OIDC_ISSUER")
        return found

    async def keys(self, configuration: Configuration) -> KeySet:
        """Fetch the public keys. The set is empty if no key can be used.

        Raises:
            ProviderDown: there is no key set.
        """
        return _usable_keys(json_object(await self._http.get(str(configuration.jwks_uri))))

    async def cached_keys(self, *, newer_than: KeySet | None = None) -> KeySet:
        """Return the public keys. They are at most an hour old, or older if the issuer is down.

        If a key is missing from the set, pass the set as ``newer_than`` to fetch the keys again.

        Raises:
            Unavailable: no keys are known, or newer keys cannot be fetched.
        """
        if newer_than is None and not self._is_due():
            return self._keys
        async with self._fetching:
            if self._keys is newer_than or self._is_due():
                await self._fetch()
        is_missing = self._keys is newer_than and self._last_fetch_failed
        if not self._keys or is_missing:
            raise Unavailable("The identity provider does not respond.")
        return self._keys

    def _is_due(self) -> bool:
        pause = PAUSE_SECONDS if self._last_fetch_failed else FRESH_SECONDS
        return not self._keys or time.monotonic() - self._fetched_at > pause

    async def _fetch(self) -> None:
        if time.monotonic() - self._fetched_at < PAUSE_SECONDS:
            return
        self._fetched_at = time.monotonic()
        self._last_fetch_failed = True
        try:
            async with responding_within(CACHE_TIMEOUT_SECONDS):
                keys = await self.keys(await self.configuration())
        except ProviderDown as error:
            _log.warning("could not fetch the identity provider's keys: %s", error)
            return
        if not keys:
            _log.warning("the identity provider publishes no usable key")
            return
        self._keys = keys
        self._last_fetch_failed = False


@asynccontextmanager
async def responding_within(seconds: float) -> AsyncIterator[None]:
    """Limit the time of calls to the provider.

    Raises:
        ProviderDown: the provider did not respond in time, the connection failed, or the provider
            sent a text that a call to it cannot contain.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise ProviderDown(f"no response within {seconds} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError) as error:
        raise ProviderDown(type(error).__name__) from error


def json_object(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object in a successful response.

    Raises:
        ProviderDown: the response is an error or not a JSON object.
    """
    try:
        found = response.json() if response.is_success else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        path, status = response.url.path, response.status_code
        raise ProviderDown(f"{path} returned {status} without a JSON object")
    return found


def verified_claims(
    token: object, keys: KeySet, algorithms: Sequence[str], **rules: Any
) -> dict[str, Any]:
    """Return the claims of a JWT whose signature and claims are valid.

    ``rules`` are those of joserfc's ``JWTClaimsRegistry``. ``sub`` and ``exp`` are always
    required.

    Raises:
        InvalidToken: the token is not a JWT, not signed by ``keys``, expired, or breaks a rule.
    """
    if not isinstance(token, str):
        raise InvalidToken("there is no token")
    required: jwt.ClaimsOption = {"essential": True}
    claims_rules = jwt.JWTClaimsRegistry(leeway=LEEWAY_SECONDS, sub=required, exp=required, **rules)
    registry = JWSRegistry(algorithms=algorithms, strict_check_header=False)
    try:
        claims = jwt.decode(token, keys, registry=registry).claims
        claims_rules.validate(claims)
    except InvalidKeyIdError as error:
        raise UnknownKey(_readable(error)) from None
    except ClaimError as error:
        raise InvalidToken(f"{_readable(error)}, {error.claim}") from None
    except JoseError as error:
        raise InvalidToken(_readable(error)) from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise InvalidToken("not a JWT") from None
    return claims


def _readable(error: JoseError) -> str:
    return error.error.replace("_", " ")


def _usable_keys(published: dict[str, Any]) -> KeySet:
    """Return the keys that can verify a signature. Unsupported keys are ignored."""
    listed = published.get("keys")
    if not isinstance(listed, list):
        return KeySet([])
    return KeySet([key for each in listed if (key := _public_key(each))])


def _public_key(published: Any) -> Key | None:
    with suppress(JoseError, ValueError, TypeError, KeyError):
        key = JWKRegistry.import_key(published)
        if isinstance(key, RSAKey | ECKey | OKPKey):
            return key
    return None
