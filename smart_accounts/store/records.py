"""What the store hands out: plain frozen records, times in UTC."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import Row

from smart_accounts.contract.messages import Email, EmailKind, Status
from smart_accounts.settings import Settings

_ONLY_WHILE_PENDING = {
    EmailKind.ACTIVATION,
    EmailKind.REQUEST_RECEIVED,
    EmailKind.REMINDER,
    EmailKind.EXPIRING,
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many requests are too many."""

    open_per_customer: int
    starts_per_requester_per_hour: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            open_per_customer=settings.max_open_per_customer,
            starts_per_requester_per_hour=settings.max_starts_per_requester_per_hour,
        )


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
    needs_attention: tuple[str, ...]
    requested_at: datetime
    deadline: datetime
    link_ordinal: int
    """The activation link in force; those with a lower ordinal are superseded."""
    signalled: str | None
    """The customer's answer (``accepted``, ``declined``) that Temporal has and we may not yet."""
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None

    def makes_untrue(self, email: Email) -> bool:
        """Whether an email that has not left yet must not leave any more."""
        if email.kind == EmailKind.ACTIVATION and email.number != self.link_ordinal:
            return True  # its link is dead
        return email.kind in _ONLY_WHILE_PENDING and self.status != Status.PENDING


def stored_request(row: Row[Any]) -> StoredRequest:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    fields = {name: fields[name] for name in StoredRequest.__dataclass_fields__}
    lists = {name: tuple(fields[name]) for name in ("added_users", "needs_attention")}
    return StoredRequest(**fields | lists | {"status": Status(row.status)})


@dataclass(frozen=True, kw_only=True)
class ActivationLink:
    """A link that was issued: which request it is for, and which of its links it is."""

    ordinal: int
    request: StoredRequest

    @property
    def is_superseded(self) -> bool:
        return self.ordinal < self.request.link_ordinal


@dataclass(frozen=True, kw_only=True)
class ReturnedEmail:
    """An email that came back: which one, and of which request."""

    workflow_id: str
    request_id: str
    email: Email
