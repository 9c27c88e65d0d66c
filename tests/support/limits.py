"""Limits of the store."""

from typing import Any

from smart_accounts.store.limits import Limits

_DEFAULTS = {
    "open_per_customer": 5,
    "open_per_requester": 2000,
    "starts_per_requester_per_hour": 500,
    "emails_per_mailbox_per_day": 10,
    "emails_per_requester_per_day": 1000,
}


def new_limits(**changes: Any) -> Limits:
    """Return the default limits with these changes."""
    return Limits(**_DEFAULTS | changes)
