"""Tokens of activation links and return paths: unforgeable, opaque, derived: the same each time."""

import base64
import hashlib
import hmac
from collections.abc import Sequence


class LinkTokens:
    """Derives tokens under secret keys; the newest key, which comes first, makes new ones.

    Source: HMAC-SHA256 (RFC 2104) of request id and ordinal, 43 URL-safe characters. A return
    path's token is 32 characters of base32, since mail servers may change the case.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def candidates(self, request_id: str, ordinal: int) -> list[str]:
        """The link's token under each key, newest first."""
        message = f"activate:{request_id}:{ordinal}".encode()
        macs = (hmac.digest(key, message, hashlib.sha256) for key in self._keys)
        return [base64.urlsafe_b64encode(mac).rstrip(b"=").decode() for mac in macs]

    def is_genuine(self, token: str, request_id: str, ordinal: int) -> bool:
        """Whether one of the keys in use made the token; a dropped key's links are dead."""
        presented = token.encode()
        return any(
            hmac.compare_digest(presented, candidate.encode())
            for candidate in self.candidates(request_id, ordinal)
        )

    def return_token(self, message_id: str) -> str:
        """Stands in an email's return path and makes a bounce believable."""
        mac = hmac.digest(self._keys[0], f"return:{message_id}".encode(), hashlib.sha256)
        return base64.b32encode(mac[:20]).decode().lower()


def token_hash(token: str) -> str:
    """What the store keeps of a token: SHA-256 in hex. The token has 256 random-looking bits."""
    return hashlib.sha256(token.encode()).hexdigest()
