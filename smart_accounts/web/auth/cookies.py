"""Cookies that only we can make and that end at a moment set when they were made."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from itsdangerous import BadData, URLSafeSerializer


class SignedCookies:
    """Whoever has one can read it but not change it.

    Source: HMAC-SHA256 under a key derived, by HMAC again, from a secret key, the cookie's name
    and the issuer: one kind can't pass for another, and a change of the issuer ends them all.
    The newest key, which comes first, signs; the others still verify.
    """

    def __init__(self, keys: Sequence[str], public_url: str, issuer: str | None) -> None:
        self._keys = list(reversed(keys))  # itsdangerous has the newest last
        self._issuer = issuer
        self._https = public_url.startswith("https:")

    def names(self, request: Request, prefix: str) -> list[str]:
        """Those of our cookies, signed or not, whose names begin so."""
        whole = self._named("")
        found = [name.removeprefix(whole) for name in request.cookies if name.startswith(whole)]
        return [name for name in found if name.startswith(prefix)]

    def read(self, request: Request, name: str) -> dict[str, Any] | None:
        """What was put into it; ``None`` if it is not there, not genuine, or over."""
        try:
            content: dict[str, Any] = self._signer(name).loads(
                request.cookies.get(self._named(name), "")
            )
        except BadData:
            return None
        return content if datetime.now(UTC).timestamp() < content["until"] else None

    def give(
        self, response: Response, name: str, content: Mapping[str, Any], until: datetime
    ) -> None:
        value = self._signer(name).dumps({**content, "until": until.timestamp()})
        assert isinstance(value, str)
        left = until - datetime.now(UTC)
        self._set(response, name, value, max(0, int(left.total_seconds())))

    def take(self, response: Response, name: str) -> None:
        """Have the browser forget it."""
        self._set(response, name, "", 0)

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            self._named(name),
            value,
            max_age=seconds,
            path="/",
            secure=self._https,
            httponly=True,
            samesite="lax",
        )

    def _named(self, name: str) -> str:
        # With this prefix browsers take it over https and from this very host alone.
        return f"__Host-{name}" if self._https else name

    def _signer(self, name: str) -> URLSafeSerializer:
        return URLSafeSerializer(
            self._keys,
            salt=f"cookie:{name}:{self._issuer}",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
