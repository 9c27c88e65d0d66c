"""Text for people: moments, durations, and text that others wrote."""

from datetime import UTC, datetime, timedelta


def time_left(left: timedelta) -> str:
    """How long there is still to answer: days to the nearest, hours never a minute too many."""
    hours = (left + timedelta(minutes=1)) // timedelta(hours=1)
    if hours >= 48:
        return f"{round(left / timedelta(days=1))} days left"
    if hours >= 2:
        return f"{hours} hours left"
    return "1 hour left" if hours else "less than an hour left"


def utc(moment: datetime) -> str:
    """A moment in words, to the minute: ``2026-11-25 14:05 UTC``."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
