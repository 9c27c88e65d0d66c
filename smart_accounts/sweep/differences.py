"""What a sweep found, and what it did about it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A kind of difference. Metrics, logs and JSON have these values."""

    TERMINATED = "terminated"
    """Open in the store, but its workflow was terminated or has failed."""
    MISSING = "missing"
    """Open in the store, but Temporal has no workflow."""
    NOT_STORED = "not-stored"
    """Temporal has a request that the store does not have."""
    STORE_BEHIND = "store-behind"
    """Temporal has a decision, a link or an approval that the store does not have."""
    TEMPORAL_BEHIND = "temporal-behind"
    """The request has ended in the store, but its workflow still waits."""
    ACCOUNT_OPEN = "account-open"
    """Temporal has closed an account that is still active in the store."""
    EMAILS_UNSENT = "emails-unsent"
    """The request has ended, but no workflow sends the emails about it."""
    WEBHOOKS_UNSENT = "webhooks-unsent"
    """Events wait for a webhook endpoint, but no workflow sends them."""
    UNREADABLE = "unreadable"
    """No worker can read the workflow."""


class Repair(StrEnum):
    """What a sweep does about a difference."""

    WITHDRAWN = "withdrawn"
    WAITS = "withdrawn once it is missing for an hour"
    HELD = "nothing: too many are missing"
    RESTARTED = "restarted"
    NOT_RESTARTED = "nothing: it has ended, or another workflow has its domain"
    REBUILT = "corrected in the store"
    DOMAIN_TAKEN = "nothing: a newer request has the domain; withdraw that one first"
    WORKFLOW_ENDED = "workflow ended"
    EMAILS_STARTED = "emails started"
    HANDED_OVER = "handed to Temporal again"
    TRIED_AGAIN = "nothing: the next sweep tries again"


@dataclass(frozen=True)
class Difference:
    """One difference. For ``webhooks-unsent``, ``request_id`` is the id of the endpoint."""

    kind: Kind
    request_id: str
    repair: Repair


@dataclass(frozen=True)
class Report:
    """The result of a sweep. ``held`` is why it did not withdraw what is missing."""

    open_requests: int
    differences: Sequence[Difference]
    held: str | None

    def counts(self) -> dict[str, int]:
        return dict(Counter(each.kind.value for each in self.differences))
