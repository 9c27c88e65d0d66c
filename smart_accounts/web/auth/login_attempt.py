"""Login attempts: what the browser keeps while the person signs in at the identity provider."""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from fastapi import Request, Response

from smart_accounts.errors import Rejected
from smart_accounts.sealing import seal, unseal
from smart_accounts.web.auth.cookies import SignedCookies

LIFETIME = timedelta(minutes=10)  # from leaving our page to the return
MAX_AT_ONCE = 5  # in one browser, for example in tabs that were reopened together
PREFIX = "sign-in-"


class SignInFailed(Rejected):
    """The sign-in failed. ``problem`` names the part of the page that explains it."""

    def __init__(self, problem: str, why: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(f"{problem}: {why}")
        self.problem = problem
        self.details = details


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where a sign-in leads. ``next`` is the page that the person asked for.

    ``is_second_try`` is True if the sign-in began again by itself.
    """

    next: str
    is_second_try: bool = False


@dataclass(frozen=True, kw_only=True)
class LoginAttempt:
    """The secrets of one attempt."""

    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        """The PKCE code challenge (RFC 7636), method S256."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class LoginAttempts:
    """Keeps each attempt in its own cookie, so that two tabs do not interfere with each other.

    The state is a random id, which must match the cookie, and the encrypted destination, which can
    be read without the cookie too. The newest key encrypts.
    """

    def __init__(self, cookies: SignedCookies, keys: Sequence[str], issuer: str | None) -> None:
        self._cookies = cookies
        self._keys = keys
        self._purpose = f"state:{issuer}"

    def begin(self, destination: Destination) -> LoginAttempt:
        id_, nonce, verifier = (secrets.token_urlsafe() for _ in range(3))
        sealed = seal(json.dumps(asdict(destination)), self._keys[0], self._purpose)
        return LoginAttempt(state=f"{id_}.{sealed}", nonce=nonce, verifier=verifier)

    def keep(self, request: Request, response: Response, attempt: LoginAttempt) -> None:
        open_attempts = self._cookies.names(request, PREFIX)
        if len(open_attempts) >= MAX_AT_ONCE:
            for name in open_attempts:
                self._cookies.delete(response, name)
        # Without the destination, because proxies limit the size of response headers.
        content = asdict(attempt) | {"state": _id(attempt.state)}
        expires = datetime.now(UTC) + LIFETIME
        self._cookies.set(response, _cookie(attempt.state), content, expires)

    def find(self, request: Request, state: str) -> LoginAttempt | None:
        """Return the attempt that this browser began with this state."""
        content = self._cookies.read(request, _cookie(state))
        if content is None or not hmac.compare_digest(
            content["state"].encode(), _id(state).encode()
        ):
            return None
        return LoginAttempt(state=state, nonce=content["nonce"], verifier=content["verifier"])

    def destination(self, state: str) -> Destination | None:
        """Return the destination in a state that we made, for this browser or another one."""
        sealed = state.partition(".")[2]
        for key in self._keys:
            if (content := unseal(sealed, key, self._purpose)) is not None:
                return Destination(**json.loads(content))
        return None

    def end(self, response: Response, attempt: LoginAttempt) -> None:
        self._cookies.delete(response, _cookie(attempt.state))


def _id(state: str) -> str:
    return state.partition(".")[0]


def _cookie(state: str) -> str:
    return PREFIX + state[:8]
