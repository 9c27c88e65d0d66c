"""Cookies, and signed cookies that contain the time when they expire."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from itsdangerous import BadData, URLSafeSerializer


class Cookies:
    """Cookies that scripts cannot read and other sites cannot send with their forms."""

    def __init__(self, public_url: str) -> None:
        self._https = public_url.startswith("https:")

    def names(self, request: Request, prefix: str) -> list[str]:
        """Return the names of our cookies that begin with ``prefix``, valid or not."""
        full_prefix = self._full_name("")
        names = [name for name in request.cookies if name.startswith(full_prefix)]
        found = [name.removeprefix(full_prefix) for name in names]
        return [name for name in found if name.startswith(prefix)]

    def value(self, request: Request, name: str) -> str:
        """Return the value, or an empty text if there is no such cookie."""
        return request.cookies.get(self._full_name(name), "")

    def set_value(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            self._full_name(name),
            value,
            max_age=seconds,
            path="/",
            secure=self._https,
            httponly=True,
            samesite="lax",
        )

    def delete(self, response: Response, name: str) -> None:
        self.set_value(response, name, "", 0)

    def _full_name(self, name: str) -> str:
        # Browsers accept a cookie with this prefix only over https and only from this host.
        return f"__Host-{name}" if self._https else name


class SignedCookies(Cookies):
    """Cookies that the browser can read but not change.

    They are signed with HMAC-SHA256. The signing key is derived by HMAC from one of ``keys``, the
    cookie's name and the issuer. Therefore one kind of cookie cannot be used as another, and a
    change of the issuer invalidates all cookies. The first of ``keys`` is the newest. It signs, and
    the others still verify.
    """

    def __init__(self, keys: Sequence[str], public_url: str, issuer: str | None) -> None:
        super().__init__(public_url)
        self._keys = list(reversed(keys))  # itsdangerous expects the newest key last
        self._issuer = issuer

    def read(self, request: Request, name: str) -> dict[str, Any] | None:
        """Return the content, or None if there is no such cookie, or it is forged or expired."""
        try:
            content: dict[str, Any] = self._signer(name).loads(self.value(request, name))
        except BadData:
            return None
        return content if datetime.now(UTC).timestamp() < content["until"] else None

    def set(
        self, response: Response, name: str, content: Mapping[str, Any], expires: datetime
    ) -> None:
        value = self._signer(name).dumps({**content, "until": expires.timestamp()})
        assert isinstance(value, str)
        left = expires - datetime.now(UTC)
        self.set_value(response, name, value, max(0, int(left.total_seconds())))

    def _signer(self, name: str) -> URLSafeSerializer:
        return URLSafeSerializer(
            self._keys,
            salt=f"cookie:{name}:{self._issuer}",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
