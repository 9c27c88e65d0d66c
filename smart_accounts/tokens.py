"""Tokens for activation links and return paths. They are derived from secret keys."""

import base64
import hashlib
import hmac
from collections.abc import Sequence


class LinkTokens:
    """Derives tokens from secret keys. New tokens use the newest key, which comes first.

    A token is an HMAC-SHA256 (RFC 2104), so nobody can guess it and it can be made again. A link's
    token has 43 URL-safe characters, from the request id and the link's ordinal. A return path's
    token has 32 characters of base32, because mail servers may change upper and lower case.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    def candidates(self, request_id: str, ordinal: int) -> list[str]:
        """Return the link's token under each key, newest key first."""
        message = f"activate:{request_id}:{ordinal}".encode()
        macs = (hmac.digest(key, message, hashlib.sha256) for key in self._keys)
        return [base64.urlsafe_b64encode(mac).rstrip(b"=").decode() for mac in macs]

    def is_genuine(self, token: str, request_id: str, ordinal: int) -> bool:
        """Return True if one of the keys made the token. Links of removed keys do not work."""
        presented = token.encode()
        return any(
            hmac.compare_digest(presented, candidate.encode())
            for candidate in self.candidates(request_id, ordinal)
        )

    def return_token(self, message_id: str) -> str:
        """Return the token for an email's return path. A bounce with it is about this email."""
        mac = hmac.digest(self._keys[0], f"return:{message_id}".encode(), hashlib.sha256)
        return base64.b32encode(mac[:20]).decode().lower()


def return_path(token: str, domain: str) -> str:
    """Return the address to which an email with this token comes back."""
    return f"bounce-{token}@{domain}"


def token_hash(token: str) -> str:
    """Return the SHA-256 of the token in hex, which is all that the store keeps of a token.

    No salt is needed, because a token has 160 random-looking bits or more.
    """
    return hashlib.sha256(token.encode()).hexdigest()
