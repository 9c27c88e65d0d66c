"""The worst strings for validators and parsers, and the CPU time that a call may use."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from smart_accounts.errors import SmartAccountsError

VALIDATOR_SECONDS = 0.001
CALL_SECONDS = 0.1

# Each makes some regular expression, normalisation or parser do as much work as it can.
PATTERNS: dict[str, str] = {
    "letters": "a",
    "spaces": " ",
    "letters and spaces": "a ",
    "dots": ".",
    "labels": "a.",
    "labels of other scripts": "ü.",
    "at signs": "@",
    "addresses": "a@b.example,",
    "URL schemes": "http:",
    "word characters of other scripts": "ß",
    "combining marks": "a\u0301\u0316",
    "only combining marks": "\u0316\u0301",
    "Hangul": "\u1100\u1161\u11a8",
    "control characters": "\x01",
    "joiners": "\u200d",
    "line breaks": "\r\n",
    "commas": ",",
    "quotes": '"\\',
    "brackets": "(<[",
    "pairs of brackets": "><",
    "names and addresses": "a <a@b.example>;",
    "quotes and spaces": "' ",
    "links": "[mailto:",
    "soft hyphens": "\xad",
    "tabs": "\t\x1f",
    "digits": "1",
    "four bytes": "\U0001f600",
    "ligatures": "\ufdfa",
}


def filled(pattern: str, size: int) -> str:
    return (pattern * (size // len(pattern) + 1))[:size]


def cpu_seconds(function: Callable[..., Any], *arguments: Any, enough: float) -> float:
    """Return the CPU time of the fastest of at most three calls.

    A busy machine disturbs some calls. The first that takes less than ``enough`` is the last one.
    """
    times: list[float] = []
    while len(times) < 3 and not (times and times[-1] < enough):
        start = time.process_time()
        with suppress(ValidationError, SmartAccountsError):
            function(*arguments)
        times.append(time.process_time() - start)
    return min(times)
