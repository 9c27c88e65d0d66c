"""The keys that the identity provider signs with, kept so that no call of the API waits for it."""

import asyncio
import logging
import math
import time
from contextlib import suppress
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, KeySet, OKPKey, RSAKey

from smart_accounts.errors import Unavailable

FRESH_SECONDS = 3600  # a key that the provider gave up is refused after this at the latest
PAUSE_SECONDS = 10  # strangers can name keys that don't exist: they must not make us ask each time
ANSWER_SECONDS = 2

_log = logging.getLogger(__name__)


class IssuerKeys:
    """The public keys of ``issuer``, by OpenID Connect Discovery.

    Those it had last are used for as long as it does not answer.
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._keys = KeySet([])
        self._asked_at = -math.inf
        self._answered = False
        self._asking = asyncio.Lock()

    async def newest(self, *, than: KeySet | None = None) -> KeySet:
        """The keys; with ``than``, which lack the one that is wanted, newer ones if there are.

        Raises:
            Unavailable: the issuer does not answer.
        """
        if than is None and not self._is_due():
            return self._keys
        async with self._asking:
            if self._keys is than or self._is_due():
                await self._ask()
        if not self._keys or (self._keys is than and not self._answered):
            raise Unavailable("The identity provider does not answer.")
        return self._keys

    def _is_due(self) -> bool:
        return not self._keys or time.monotonic() - self._asked_at > FRESH_SECONDS

    async def _ask(self) -> None:
        if time.monotonic() - self._asked_at < PAUSE_SECONDS:
            return
        self._asked_at = time.monotonic()
        self._answered = False
        try:
            async with asyncio.timeout(ANSWER_SECONDS), httpx.AsyncClient() as http:
                where = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
                found = (await http.get(where)).raise_for_status().json()
                if found["issuer"] != self._issuer:
                    raise ValueError("another issuer")  # noqa: TRY301 - one way to be no answer
                listed = (await http.get(found["jwks_uri"])).raise_for_status().json()
                keys = usable_keys(listed)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, LookupError, TypeError) as error:
            _log.warning("no keys from the identity provider: %s", type(error).__name__)
        except ValueError as error:
            _log.warning("the identity provider's answer makes no sense: %s", error)
        else:
            self._answered = True
            self._keys = keys


def usable_keys(listed: Any) -> KeySet:
    """Of a provider's JSON Web Key Set those that can be used: one odd key spoils no other."""
    return KeySet([key for each in listed["keys"] if (key := _public_key(each))])


def _public_key(listed: Any) -> Key | None:
    """One of a kind that we verify with; what else is listed is for others."""
    with suppress(JoseError, ValueError, TypeError, KeyError):
        key = JWKRegistry.import_key(listed)
        if isinstance(key, RSAKey | ECKey | OKPKey):
            return key
    return None
