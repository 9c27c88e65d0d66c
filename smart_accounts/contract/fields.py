"""The field rules of a request, as pydantic types. Their messages quote no value."""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from itertools import islice
from typing import Annotated, Any

import idna
from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

from smart_accounts.contract.addresses import bare_address, split_addresses
from smart_accounts.contract.characters import HIDDEN, JOINERS, MARKS, plain_text
from smart_accounts.contract.domains import is_free_mail, is_public_suffix
from smart_accounts.text import printable

MAX_NAME = 120
MAX_NOTE = 1024
MAX_DESCRIPTION = 200
MAX_EMAIL = 254
MAX_DOMAIN = 253
MAX_LOCAL_PART = 64
MAX_DURATION = 64
MAX_MARKS = 30  # combining marks in a row, as in Unicode's Stream-Safe Text Format (UAX #15)
# How much longer than the limit a value may be before spaces are removed. Every length is checked
# before anything else reads the value, because normalising long values takes seconds.
MAX_EXCESS = 4
MAX_EXCESS_OF_OPEN_REQUESTS = 64

_URL = re.compile(
    r"\w+://|\bwww\.|\b(?:https?|ftp|mailto|javascript|data):|\w\.[^\W\d_]{2,}/", re.IGNORECASE
)
_WITHOUT_MARKS = str.maketrans("", "", MARKS)
_DOTS = re.compile("[.\u3002\uff0e\uff61]")  # those that IDNA takes for a dot
_DURATION = re.compile(r"P(?=\d|T\d)(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d{1,6})?S)?)?")
_is_new = ContextVar("is_new", default=True)


@contextmanager
def rules_of_open_requests() -> Iterator[None]:
    """Build messages under the rules that every release so far has applied.

    An open request reads its start input again at each replay, so what was valid at the start
    must stay valid. New rules, and the lists of public suffixes and free-mail domains, which grow,
    apply only to new requests.
    """
    before = _is_new.set(False)
    try:
        yield
    finally:
        _is_new.reset(before)


def is_new() -> bool:
    """Return True unless the rules of open requests apply."""
    return _is_new.get()


def _error(kind: str, message: str) -> PydanticCustomError:
    return PydanticCustomError(kind, message)


def _check_length(value: str, limit: int) -> None:
    """Check the length of a value before anything else reads it."""
    if len(value) > limit * (MAX_EXCESS if is_new() else MAX_EXCESS_OF_OPEN_REQUESTS):
        raise _error("text_too_long", f"must have at most {limit} characters")


def _normalised(value: str) -> str:
    """Return the value in Unicode's normalization form C."""
    marks = 0
    for char in value if not value.isascii() else "":
        marks = marks + 1 if unicodedata.combining(char) else 0
        if marks > MAX_MARKS:  # the time to normalise grows with the square of their number
            if not is_new():
                return value
            raise _error("marks", f"must have at most {MAX_MARKS} combining marks in a row")
    return unicodedata.normalize("NFC", value)


def _one_line(value: str, limit: int = MAX_NAME) -> str:
    _check_length(value, limit)
    if HIDDEN.search(value):
        raise _error("hidden_characters", "must not contain control or invisible characters")
    if "<" in value or ">" in value:
        raise _error("markup", "must not contain < or >")
    value = " ".join(_normalised(value).split())
    if not value.translate(_WITHOUT_MARKS).strip(f" {JOINERS}" if is_new() else " "):
        raise _error("empty", "must not be empty")
    if len(value) > limit:
        raise _error("text_too_long", f"must have at most {limit} characters")
    return value


def _description(value: str) -> str:
    return _one_line(value, MAX_DESCRIPTION) if value.strip() else ""


def _no_url(value: str) -> str:
    if _URL.search(value.translate(_WITHOUT_MARKS)):
        raise _error("url", "must not contain a web address")
    return value


def _note(value: str | None) -> str | None:
    if value is None:
        return None
    _check_length(value, MAX_NOTE)
    value = plain_text(value)
    for number, line in enumerate(value.split("\n"), 1):
        if HIDDEN.search(line):
            raise _error(
                "hidden_characters",
                f"must not contain control or invisible characters, but line {number} does",
            )
    value = _normalised(value).strip()
    if len(value) > MAX_NOTE:
        raise _error("text_too_long", f"must have at most {MAX_NOTE} characters")
    return value if value.translate(_WITHOUT_MARKS).strip() else None


def _reason(value: str) -> str:
    note = _note(value)
    if note is None:
        raise _error("empty", "must not be empty")
    return note


def _email(value: str) -> str:
    _check_length(value, MAX_EMAIL)
    value = bare_address(value)
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


def _named_email(value: str) -> str:
    """Return the address of an entry that may have a display name."""
    _check_length(value, MAX_EMAIL)
    entries = list(islice(split_addresses(value), 2))
    if len(entries) != 1:
        return _email(value)
    return _email(entries[0][max(entries[0].rfind("<"), 0) :])


def _encoded_length(domain: str) -> int:
    """Return the least length of the domain as A-labels. Encoding many labels takes long."""
    labels = _DOTS.split(domain)
    return sum(len(label) + (1 if label.isascii() else len("xn--") + 1) for label in labels) - 1


def _domain(value: str) -> str:
    _check_length(value, MAX_DOMAIN)
    value = value.strip().removesuffix(".")
    if len(value) > MAX_DOMAIN or (is_new() and _encoded_length(value) > MAX_DOMAIN):
        raise _error("domain", f"must have at most {MAX_DOMAIN} characters")
    try:
        value = idna.encode(value, uts46=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise _error("domain", "must be a domain name such as example.com") from None
    if not re.fullmatch(r"(?!.*\.\d+$)([a-z0-9-]{1,63}\.)+[a-z0-9-]{1,63}", value):
        raise _error("domain", "must be a domain name of at least two parts, such as example.com")
    if not is_new():
        return value
    if is_public_suffix(value):
        raise _error("public_suffix", "must be a company's own domain, not a public suffix")
    if is_free_mail(value):
        raise _error("free_mail", "must be a company's own domain, not a free-mail provider's")
    return value


def _duration(value: Any) -> Any:
    # pydantic alone would read P3M as 90 days, and a number as seconds.
    if isinstance(value, timedelta):
        return value
    is_short = isinstance(value, str) and len(value) <= MAX_DURATION
    if not is_short or not _DURATION.fullmatch(value):
        raise _error("duration", "must be an ISO 8601 duration in days or less, such as P90D")
    return value


def _iso(value: timedelta) -> str:
    seconds = f"{value.seconds + value.microseconds / 1_000_000:.6f}".rstrip("0").rstrip(".")
    return f"P{value.days}D" + (f"T{seconds}S" if seconds != "0" else "")


def _window(value: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= value <= timedelta(days=365):
        raise _error("window", "must be between PT1S and P365D")
    return value


def _purge_time(value: timedelta) -> timedelta:
    if value < timedelta(days=1):
        raise _error("purge_time", "must be at least P1D, because purged data cannot be restored")
    return value


Printable = AfterValidator(printable)  # PostgreSQL rejects NUL characters
Name = Annotated[str, AfterValidator(_one_line)]
AccountName = Annotated[str, AfterValidator(_one_line), AfterValidator(_no_url)]
Description = Annotated[str, AfterValidator(_description)]
Note = Annotated[str | None, AfterValidator(_note)]
Reason = Annotated[str, AfterValidator(_reason)]
EmailAddress = Annotated[str, AfterValidator(_email)]
NamedEmailAddress = Annotated[str, AfterValidator(_named_email)]
AccountDomain = Annotated[str, AfterValidator(_domain)]
Duration = Annotated[timedelta, BeforeValidator(_duration), PlainSerializer(_iso, return_type=str)]
AcceptanceWindow = Annotated[Duration, AfterValidator(_window)]
PurgeTime = Annotated[Duration, AfterValidator(_purge_time)]
