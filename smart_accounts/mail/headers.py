"""Headers and parts of emails. Those that are the same in many emails are made once."""

from binascii import b2a_qp
from email.headerregistry import BaseHeader, HeaderRegistry, UniqueUnstructuredHeader
from email.message import EmailMessage
from email.policy import EmailPolicy, Policy
from functools import cache, cached_property, lru_cache
from typing import Any

MAX_IN_ENCODED_WORD = 55  # so that a line with "Subject:" has at most 76 characters (RFC 2047 §2)
# "=_" cannot stand in quoted-printable, so the boundary cannot stand in a part (RFC 2045 §6.7).
ALTERNATIVES = 'multipart/alternative; boundary="=_alternative"'


class _Header(BaseHeader):
    """A header that is folded once, because most headers are the same in many emails."""

    @cached_property
    def _folded(self) -> dict[Policy, str]:
        return {}

    def fold(self, *, policy: Policy) -> str:
        if policy not in self._folded:
            self._folded[policy] = super().fold(policy=policy)
        return self._folded[policy]


class _Subject(UniqueUnstructuredHeader):
    """A subject that arrives unchanged. Python's own folding loses spaces in names."""

    def fold(self, *, policy: EmailPolicy) -> str:
        words = [""]
        for encoded in map(_in_encoded_word, str(self)):
            if len(words[-1]) + len(encoded) > MAX_IN_ENCODED_WORD:
                words.append("")
            words[-1] += encoded
        lines = f"{policy.linesep} ".join(f"=?utf-8?q?{word}?=" for word in words)
        return f"Subject: {lines}{policy.linesep}"


@lru_cache(maxsize=1000)
def _in_encoded_word(character: str) -> str:
    """Return a character as it stands in an encoded word (RFC 2047 §4.2)."""
    if character.isascii() and character.isalnum():
        return character
    return "_" if character == " " else "".join(f"={byte:02X}" for byte in character.encode())


class _Headers(HeaderRegistry):
    """Python's own registry makes a new class each time it is asked for one."""

    @cache  # noqa: B019 - there is one registry
    def __getitem__(self, name: str) -> type[BaseHeader]:
        return super().__getitem__(name)


HEADERS = _Headers(base_class=_Header)
HEADERS.map_to_type("subject", _Subject)  # type: ignore[arg-type]  # the registry adds the base class
POLICY = EmailPolicy(header_factory=HEADERS)


@cache
def header(name: str, value: str) -> Any:
    """Return a header that many emails have. Making one takes longer than adding it."""
    return HEADERS(name, value)


def new_part(text: str, subtype: str) -> EmailMessage:
    """Return one of the alternatives."""
    part = EmailMessage(POLICY)
    part["Content-Type"] = header("Content-Type", f'text/{subtype}; charset="utf-8"')
    # Quoted-printable gives short ASCII lines, which every mail server accepts.
    part["Content-Transfer-Encoding"] = header("Content-Transfer-Encoding", "quoted-printable")
    part.set_payload(b2a_qp(text.encode(), istext=True).decode("ascii"))
    return part
