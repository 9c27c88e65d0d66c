"""Signing secrets of webhook endpoints, and signatures as Standard Webhooks specifies them."""

import base64
import os
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from smart_accounts import sealing
from smart_accounts.errors import SmartAccountsError

_PURPOSE = "webhook-secret"
_SECRET_BYTES = 32  # Standard Webhooks wants 24 to 64


class SecretLost(SmartAccountsError):
    """The signing secret was encrypted with a key that is no longer one of the secret keys."""

    def __init__(self) -> None:
        super().__init__(
            "The signing secret cannot be read any more, because a key of this service was removed."
            " Rotate the secret."
        )


def new_secret() -> str:
    """Return a random secret, in the form in which receivers' libraries take it."""
    return "whsec_" + base64.b64encode(os.urandom(_SECRET_BYTES)).decode()


def sign(event_id: str, at: datetime, body: str, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers that prove who sent the body, with one signature for each secret.

    ``at`` is when this try is made. Receivers reject a time that differs from their clock's by more
    than five minutes, so it is the machine's time, even where Temporal skips time.
    """
    at = at.astimezone(UTC)  # the library takes every time for UTC
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(event_id, at, body) for secret in secrets
        ),
    }


def seal(secret: str, keys: Sequence[str]) -> str:
    """Return the secret encrypted for the database, with the newest key, which comes first."""
    return sealing.seal(secret, keys[0], _PURPOSE)


def unseal(sealed: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the secrets, newest first. A previous secret that cannot be read is left out.

    Raises:
        SecretLost: The newest secret, which comes first, was not encrypted with one of the keys.
    """
    newest, *previous = (_unsealed(each, keys) for each in sealed)
    if newest is None:
        raise SecretLost
    return [newest, *(secret for secret in previous if secret is not None)]


def sealed_again(sealed: str, keys: Sequence[str]) -> str | None:
    """Return the secret sealed with the newest key, or None if it need not or cannot be."""
    if _unsealed(sealed, keys[:1]) is not None:
        return None
    secret = _unsealed(sealed, keys[1:])
    return None if secret is None else seal(secret, keys)


def _unsealed(sealed: str, keys: Sequence[str]) -> str | None:
    opened = (sealing.unseal(sealed, key, _PURPOSE) for key in keys)
    return next((secret for secret in opened if secret is not None), None)
