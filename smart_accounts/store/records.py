"""Records that the store returns: frozen, with times in UTC."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from sqlalchemy import Row

from smart_accounts.contract.actions import ReviewDecision
from smart_accounts.contract.identity import Identity, identity_of
from smart_accounts.contract.messages import (
    REVIEW_TIME,
    EmailKind,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.names import workflow_id
from smart_accounts.contract.steps import Email

OPEN = (Status.IN_REVIEW, Status.PENDING)
"""The statuses of an open request in the store."""
ERASED = "erased"
"""Stands in place of an address or a name that was erased. Pages show it as it is."""
ROLES = ("customer", "requester", "operator")
"""What ``decided_by`` can be besides a name or an address that a client stated."""
_ONLY_WHILE_PENDING = {
    EmailKind.ACTIVATION,
    EmailKind.REQUEST_RECEIVED,
    EmailKind.REMINDER,
    EmailKind.EXPIRING,
}
_ONLY_WHILE_ACTIVE = {EmailKind.ACTIVATED, EmailKind.WELCOME, EmailKind.ACCESS_GRANTED}


class AccountState(StrEnum):
    """The state of an account.

    A request that ended without an account has none. The table of accounts has a closed row then.
    """

    PROVISIONAL = "provisional"
    ACTIVE = "active"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True)
class StoredRequest:
    """A request as the store knows it. ``id`` is the first run id of its workflow."""

    id: str
    workflow_id: str
    status: Status
    account_name: str
    account_domain: str
    customer_email: str
    requester_email: str
    requester_name: str
    requester_company: str
    requester_issuer: str | None
    requester_subject: str | None
    company_is_stated: bool
    """True if the requester stated the company. False if their identity provider did."""
    note_to_customer: str | None
    note_to_added_users: str | None
    added_users: tuple[str, ...]
    needs_attention: tuple[str, ...]
    requested_at: datetime
    deadline: datetime
    link_ordinal: int
    """The activation link in force. Links with a lower ordinal are superseded."""
    signalled: str | None
    """The customer's answer that Temporal has received: ``accepted`` or ``declined``.

    The page stores it before the workflow records the decision.
    """
    signalled_link: int | None
    """The link that this answer came through. None if the first release noted it."""
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    retry_at: datetime | None = None
    """When to try again, if a limit rejected the request."""
    needs_review: bool = False
    """An operator must approve the request, or has approved it at ``approved_at``."""
    approved_at: datetime | None = None
    is_reported: bool = False
    """The customer declined and reported the requester. Only operators see it."""
    contested_at: datetime | None = None
    """When another requester last asked for the domain. Only operators see it."""
    closed_at: datetime | None = None
    """When an operator closed the active account. The status of the request stays active."""
    closed_by: str | None = None
    """The operator's subject, as the client stated it."""
    close_reason: str | None = None
    run_id: str | None = None
    """The first run of the last restart, otherwise the run after the last reset."""
    erased_at: datetime | None = None
    """When the data of a person in the request was last erased."""
    purged_at: datetime | None = None
    """When the data of everyone in it was erased, with its emails and its audit trail."""

    @classmethod
    def new(
        cls,
        request_id: str,
        request: SmartAccountRequest,
        requested_at: datetime,
        *,
        status: Status,
        owner: Identity | None = None,
        company_is_stated: bool = True,
        needs_attention: tuple[str, ...] = (),
        reason: str | None = None,
        retry_at: datetime | None = None,
    ) -> Self:
        """Return the record of a request as it was made, with its first link in force."""
        return cls(
            id=request_id,
            workflow_id=workflow_id(request.account_domain),
            status=status,
            account_name=request.account_name,
            account_domain=request.account_domain,
            customer_email=request.customer_email,
            requester_email=request.requester.email,
            requester_name=request.requester.name,
            requester_company=request.requester.company,
            requester_issuer=owner.issuer if owner else None,
            requester_subject=owner.subject if owner else None,
            company_is_stated=company_is_stated,
            note_to_customer=request.note_to_customer,
            note_to_added_users=request.note_to_added_users,
            added_users=request.added_users,
            needs_attention=needs_attention,
            requested_at=requested_at,
            deadline=requested_at + request.acceptance_window,
            link_ordinal=1,
            signalled=None,
            signalled_link=None,
            decided_at=requested_at if status.is_final else None,
            decided_by=None,
            reason=reason,
            retry_at=retry_at,
            needs_review=status is Status.IN_REVIEW,
        )

    @property
    def answer(self) -> str | None:
        """The customer's answer, ``accepted`` or ``declined``, or None if none is known.

        For a moment, Temporal has an answer that is not the status yet.
        """
        if self.status in (Status.ACTIVATING, Status.ACTIVE):
            return "accepted"
        if self.status is Status.DECLINED:
            return "declined"
        is_outdated = self.signalled_link not in (None, self.link_ordinal)
        return None if self.status.is_final or is_outdated else self.signalled

    @property
    def owner(self) -> Identity | None:
        """The partner who made the request, if it is known."""
        return identity_of(self.requester_issuer, self.requester_subject)

    @property
    def customer_was_asked(self) -> bool:
        """Whether the customer got, or will get, an activation email."""
        is_approved = not self.needs_review or self.approved_at is not None
        return is_approved and self.status is not Status.REJECTED

    @property
    def review_decision(self) -> ReviewDecision | None:
        """What an operator decided, or None before that and for a request without review."""
        if self.approved_at:
            return ReviewDecision.APPROVE
        is_rejected = self.needs_review and self.status is Status.REJECTED
        return ReviewDecision.REJECT if is_rejected else None

    @property
    def review_ends_at(self) -> datetime:
        """When the request lapses if no operator reviews it."""
        return min(self.requested_at + REVIEW_TIME, self.deadline)

    @property
    def account_state(self) -> AccountState | None:
        """The state of the account, or None if none was opened."""
        if self.status is Status.ACTIVE:
            return AccountState.CLOSED if self.closed_at else AccountState.ACTIVE
        is_open = self.status is not Status.REQUESTED and not self.status.is_final
        return AccountState.PROVISIONAL if is_open else None

    @property
    def awaits_answer(self) -> bool:
        return self.status is Status.PENDING and self.answer is None

    @property
    def current_status(self) -> Status | AccountState:
        """The status to show: ``activating`` as soon as Temporal has an acceptance, and ``closed``
        once the account is closed.
        """
        if self.closed_at:
            return AccountState.CLOSED
        is_accepted = not self.status.is_final and self.answer == "accepted"
        return Status.ACTIVATING if is_accepted else self.status

    def is_outdated(self, email: Email) -> bool:
        """Return True if this unsent email is outdated and must be dropped."""
        if email.address_in(self) == ERASED:
            return True
        if email.kind == EmailKind.ACTIVATION and email.number != self.link_ordinal:
            return True  # its link no longer works
        if email.kind == EmailKind.REQUEST_RECEIVED and self.status == Status.IN_REVIEW:
            return False
        if email.kind in _ONLY_WHILE_ACTIVE and self.closed_at:
            return True
        return email.kind in _ONLY_WHILE_PENDING and self.status != Status.PENDING


def stored_reminders(request: SmartAccountRequest) -> Any:
    """Return the reminders of a request as the database keeps them."""
    return request.model_dump(mode="json", include={"reminders"})["reminders"]


def stored_request(row: Row[Any]) -> StoredRequest:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    fields = {name: fields[name] for name in StoredRequest.__dataclass_fields__}
    lists = {name: tuple(fields[name]) for name in ("added_users", "needs_attention")}
    return StoredRequest(**fields | lists | {"status": Status(row.status)})


@dataclass(frozen=True, kw_only=True)
class ActivationLink:
    """An issued activation link. ``ordinal`` counts the links of its request from 1."""

    ordinal: int
    request: StoredRequest

    def state(self, now: datetime) -> str:
        """Return the state of the link, which decides what its page shows.

        Returns:
            ``superseded``, ``received`` (an answer is on its way), ``open``, ``expired``,
            ``closed`` (the account), or the final status of the request.
        """
        if self.ordinal < self.request.link_ordinal:
            return "superseded"  # checked first, because its holder may no longer be the approver
        if self.request.closed_at:
            return AccountState.CLOSED.value
        if self.request.status.is_final:
            return self.request.status.value
        if self.request.answer:
            return "received"  # the answer counts even if the deadline has passed since
        return "open" if now < self.request.deadline else "expired"


@dataclass(frozen=True, kw_only=True)
class ReturnedEmail:
    """An email that bounced, and its request."""

    workflow_id: str
    request_id: str
    email: Email
