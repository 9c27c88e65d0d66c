"""What the store hands out: plain frozen records, times in UTC."""

from dataclasses import dataclass
from datetime import datetime

from smart_accounts.messages import Status


@dataclass(frozen=True, kw_only=True)
class StoredRequest:
    """A request as the store knows it; ``id`` is the first run id of its workflow."""

    id: str
    workflow_id: str
    status: Status
    account_name: str
    account_domain: str
    customer_email: str
    requester_email: str
    requester_name: str
    requester_company: str
    note_to_customer: str | None
    note_to_added_users: str | None
    added_users: tuple[str, ...]
    requested_at: datetime
    deadline: datetime
    link_ordinal: int
    """The activation link in force; those with a lower ordinal are superseded."""
    signalled: str | None
    """The customer's answer (``accepted``, ``declined``) that Temporal has and we may not yet."""
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class ActivationLink:
    """A link that was issued: which request it is for, and which of its links it is."""

    ordinal: int
    request: StoredRequest

    @property
    def is_superseded(self) -> bool:
        return self.ordinal < self.request.link_ordinal
