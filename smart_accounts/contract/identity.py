"""The identity of a partner, which stays the same when their address, name or company changes."""

from dataclasses import dataclass

MAX_PART = 255  # characters of an issuer or a subject (OpenID Connect Core 1.0 §2)


@dataclass(frozen=True)
class Identity:
    """An identity provider, and the id by which it knows the person."""

    issuer: str
    subject: str


def identity_of(issuer: object, subject: object) -> Identity | None:
    """Return the identity, or None unless both parts are printable text of 1 to 255 characters.

    Any client can set the memo of a start, so its values may be anything.
    """
    if _is_part(issuer) and _is_part(subject):
        return Identity(str(issuer), str(subject))
    return None


def _is_part(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_PART and value.isprintable()
