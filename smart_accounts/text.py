"""Text for people: moments, durations, names, and text that somebody else wrote.

Text from outside is cleaned by one of two rules. ``printable`` keeps every character in its place
and marks what cannot be shown; it is for values that are stored or shown as they are. ``one_line``
gives a short line of words; it is for what a mail server said and for a search.
"""

import re
import unicodedata
from datetime import UTC, datetime, timedelta

REPLACEMENT = "\ufffd"
UTC_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d) UTC", re.ASCII)
"""Matches a moment as ``utc`` writes it. The groups are the day and the time."""
_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"  # FSI and PDI of Unicode's bidirectional algorithm


def printable(text: str, *, keep: str = "") -> str:
    """Replace each character that cannot be shown by U+FFFD, except those in ``keep``."""
    return "".join(c if c.isprintable() or c in keep else REPLACEMENT for c in text)


def one_line(text: str) -> str:
    """Return the words of the text on one line, without characters that cannot be shown."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in "1 request" and "2 requests"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def isolated(name: str) -> str:
    """Return a name for a sentence, so that its direction does not reorder the words beside it.

    A name with right-to-left letters is put between two invisible characters. Names in Latin
    letters stay as they are.
    """
    is_right_to_left = any(unicodedata.bidirectional(char) in ("R", "AL") for char in name)
    return f"{_ISOLATE}{name}{_END_OF_ISOLATE}" if is_right_to_left else name


def bdi(html: str) -> str:
    """Return escaped HTML with the elements that stand for the characters of ``isolated``."""
    return html.replace(_ISOLATE, "<bdi>").replace(_END_OF_ISOLATE, "</bdi>")


def without_isolates(text: str) -> str:
    return text.replace(_ISOLATE, "").replace(_END_OF_ISOLATE, "")


def visible(text: str) -> str:
    """Return the text without invisible characters, such as soft hyphens and direction marks."""
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


def folded(text: str) -> str:
    """Return the text as a search compares it, which is the same however a person types it."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    # Turkish has an i with a dot and one without, and I is the capital of the second.
    text = text.replace("i\u0307", "i").replace("\u0131", "i")
    return " ".join(visible(text).split())


def time_left(left: timedelta) -> str:
    """Return the time left to answer: days rounded, hours rounded down, such as ``89 days left``.

    A minute is added, so that a request made a moment ago has its whole hours left.
    """
    hours = (left + timedelta(minutes=1)) // timedelta(hours=1)
    if hours >= 48:
        return f"{round(left / timedelta(days=1))} days left"
    if hours >= 2:
        return f"{hours} hours left"
    return "1 hour left" if hours else "less than an hour left"


def utc(moment: datetime) -> str:
    """Return a moment for people, to the minute, such as ``2026-11-25 14:05 UTC``."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
