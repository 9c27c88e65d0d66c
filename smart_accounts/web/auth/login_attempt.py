"""Sign-ins on their way: what a browser keeps until the identity provider sends it back."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from fastapi import Request, Response

from smart_accounts.web.auth.cookies import SignedCookies

PATIENCE = timedelta(minutes=10)  # for one sign-in, from our page and back to it
MAX_AT_ONCE = 5  # in one browser, such as in tabs that were opened again together
PREFIX = "sign-in-"


@dataclass(frozen=True, kw_only=True)
class LoginAttempt:
    """``next`` is the page that was asked for."""

    state: str
    nonce: str
    verifier: str
    next: str

    @classmethod
    def begin(cls, wanted: str) -> Self:
        state, nonce, verifier = (secrets.token_urlsafe() for _ in range(3))
        return cls(state=state, nonce=nonce, verifier=verifier, next=wanted)

    @property
    def challenge(self) -> str:
        """Of PKCE (RFC 7636), method S256."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class LoginAttempts:
    """Each in a cookie of its own, so that two tabs don't undo each other's."""

    def __init__(self, cookies: SignedCookies) -> None:
        self._cookies = cookies

    def keep(self, request: Request, response: Response, attempt: LoginAttempt) -> None:
        under_way = self._cookies.names(request, PREFIX)
        for name in under_way if len(under_way) >= MAX_AT_ONCE else ():
            self._cookies.take(response, name)
        until = datetime.now(UTC) + PATIENCE
        self._cookies.give(response, _cookie(attempt.state), asdict(attempt), until)

    def find(self, request: Request, state: str) -> LoginAttempt | None:
        """The one that this browser began under this state, if it began one."""
        content = self._cookies.read(request, _cookie(state))
        if content is None or not hmac.compare_digest(content["state"].encode(), state.encode()):
            return None
        return LoginAttempt(**{name: content[name] for name in LoginAttempt.__dataclass_fields__})

    def end(self, response: Response, attempt: LoginAttempt) -> None:
        self._cookies.take(response, _cookie(attempt.state))


def _cookie(state: str) -> str:
    return PREFIX + state[:8]
