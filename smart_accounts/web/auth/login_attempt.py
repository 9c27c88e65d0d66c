"""Login attempts: what the browser keeps while the person signs in at the identity provider."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from fastapi import Request, Response

from smart_accounts.errors import Rejected
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
class LoginAttempt:
    """One attempt. ``next`` is the page that the person asked for."""

    state: str
    nonce: str
    verifier: str
    next: str

    @classmethod
    def begin(cls, next_page: str) -> Self:
        state, nonce, verifier = (secrets.token_urlsafe() for _ in range(3))
        return cls(state=state, nonce=nonce, verifier=verifier, next=next_page)

    @property
    def challenge(self) -> str:
        """The PKCE code challenge (RFC 7636), method S256."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class LoginAttempts:
    """Keeps each attempt in its own cookie, so that two tabs do not interfere with each other."""

    def __init__(self, cookies: SignedCookies) -> None:
        self._cookies = cookies

    def keep(self, request: Request, response: Response, attempt: LoginAttempt) -> None:
        open_attempts = self._cookies.names(request, PREFIX)
        if len(open_attempts) >= MAX_AT_ONCE:
            for name in open_attempts:
                self._cookies.delete(response, name)
        expires = datetime.now(UTC) + LIFETIME
        self._cookies.set(response, _cookie(attempt.state), asdict(attempt), expires)

    def find(self, request: Request, state: str) -> LoginAttempt | None:
        """Return the attempt that this browser began with this state."""
        content = self._cookies.read(request, _cookie(state))
        if content is None or not hmac.compare_digest(content["state"].encode(), state.encode()):
            return None
        return LoginAttempt(**{name: content[name] for name in LoginAttempt.__dataclass_fields__})

    def end(self, response: Response, attempt: LoginAttempt) -> None:
        self._cookies.delete(response, _cookie(attempt.state))


def _cookie(state: str) -> str:
    return PREFIX + state[:8]
