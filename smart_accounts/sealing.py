"""Encrypt texts so that only the holder of a key can read or make them (JWE, RFC 7516)."""

import hashlib
import hmac

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

_HEADER = {"alg": "dir", "enc": "A256GCM"}
_ALGORITHMS = ["dir", "A256GCM"]


def seal(text: str, key: str, purpose: str) -> str:
    """Return the encrypted text. It can be part of a URL."""
    return jwe.encrypt_compact(_HEADER, text, _derived(key, purpose), algorithms=_ALGORITHMS)


def unseal(sealed: str, key: str, purpose: str) -> str | None:
    """Return the text, or None if it was not sealed with this key and for this purpose."""
    try:
        opened = jwe.decrypt_compact(sealed, _derived(key, purpose), algorithms=_ALGORITHMS)
    except (JoseError, ValueError, TypeError):
        return None
    return opened.plaintext.decode() if opened.plaintext is not None else None


def _derived(key: str, purpose: str) -> OctKey:
    return OctKey.import_key(hmac.digest(key.encode(), purpose.encode(), hashlib.sha256))
