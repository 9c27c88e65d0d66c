"""The messages between the workflow and its activities."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Protocol

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from smart_accounts.contract.actions import Closing
from smart_accounts.contract.field_errors import FieldError
from smart_accounts.contract.fields import Printable
from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    OwnMessage,
    SmartAccountRequest,
    Status,
)


class StepResult(OwnMessage):
    """Base of what activities return. Histories keep it for months, so JSON omits the defaults."""

    @model_serializer(mode="wrap", when_used="json")
    def _omit_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in serialize(self).items()
            if getattr(self, name) != fields[name].default
        }


class Addressee(StrEnum):
    CUSTOMER = "customer"
    REQUESTER = "requester"
    ADDED_USER = "added-user"


class RequestAddresses(Protocol):
    """A request in any form that has the addresses to which its emails go."""

    @property
    def customer_email(self) -> str: ...
    @property
    def requester_email(self) -> str: ...
    @property
    def added_users(self) -> tuple[str, ...]: ...


class Email(OwnMessage):
    """Identifies one email of a request, without personal data.

    ``number`` counts from 1. For an activation email it is the ordinal of the link, for a reminder
    the position in ``reminders``, for an added user's email the position in ``added_users``.
    """

    kind: EmailKind
    to: Addressee
    number: int = 1

    def address_in(self, request: RequestAddresses) -> str:
        """Return the address of this email's recipient."""
        match self.to:
            case Addressee.CUSTOMER:
                return request.customer_email
            case Addressee.REQUESTER:
                return request.requester_email
            case Addressee.ADDED_USER:
                return request.added_users[self.number - 1]


class Bounce(OwnMessage):
    """Argument of the signal ``bounced``. ``answer`` is the reply that the bounce report quotes."""

    email: Email
    answer: Annotated[str, Field(max_length=300), Printable]


class OpenRequest(OwnMessage):
    """Store a request and its provisional account. ``request_id`` is the first run id.

    The issuer and the subject identify the requester if page or API started the request.
    """

    request_id: str
    request: SmartAccountRequest
    requested_at: datetime
    deadline: datetime
    idempotency_key: str | None = None
    requester_issuer: str | None = None
    requester_subject: str | None = None
    restarts: str | None = None
    """The id of the request whose lost workflow this run replaces, as the memo says."""


class Restarted(OwnMessage):
    """What the store has of a request whose workflow was lost or reset. A new run continues it.

    ``link_ordinal`` is 0 if the customer was not asked yet. ``answer`` is the customer's answer
    that the earlier run had received. ``customer_email`` is the present approver.
    """

    request_id: str
    requested_at: datetime
    link_ordinal: int
    approved_at: datetime | None = None
    answer: str | None = None
    customer_email: str | None = None


class Checked(StepResult):
    """The result of the checks of a request.

    ``refused`` is the reason if the request or the new link is rejected. A rejected request is
    stored without an account, a rejected link is not stored. ``retry_at`` is set if a limit rejects
    it. ``invalid`` lists errors of rules that are checked only once, because they change between
    releases. ``needs_attention`` lists what an operator should look at. ``in_review`` means that an
    operator must approve the request first. ``emails_first_locally`` means that the workflow tries
    its emails in a local activity first. ``restarted`` is set if the run replaces a lost workflow,
    or one that was reset to before a change of the request. ``keeps_early_answers`` means that an
    answer counts although it comes before its link. Histories of earlier releases have none of
    these three.
    """

    refused: str | None = None
    retry_at: datetime | None = None
    invalid: tuple[FieldError, ...] = ()
    needs_attention: tuple[str, ...] = ()
    in_review: bool = False
    emails_first_locally: bool = False
    keeps_early_answers: bool = False
    restarted: Restarted | None = None


class IssueLink(OwnMessage):
    """Replace the activation link. ``ordinal`` counts the links of the request from 1.

    ``request`` has the approver who gets the new link.
    """

    request_id: str
    request: SmartAccountRequest
    ordinal: int
    at: datetime


class Decision(StepResult):
    """The decision on a request. ``status`` is the final status that it leads to."""

    status: Status
    at: datetime
    by: str | None = None
    reason: str | None = None
    is_report: bool = False
    """The customer declined and reported the requester."""


class Approve(OwnMessage):
    """Record that an operator approved a request in review."""

    request_id: str
    at: datetime


class RecordDecision(OwnMessage):
    """End a request. ``request`` is the request at the time of the decision.

    ``link_ordinal`` is the link in force at that time. A newer one in the store was not sent,
    because the decision came while it was being issued.
    """

    request_id: str
    decision: Decision
    request: SmartAccountRequest | None = None
    link_ordinal: int | None = None


class CloseAccount(OwnMessage):
    """Record that an operator closes the account of a request."""

    request_id: str
    closing: Closing
    at: datetime


class ClosedAccount(OwnMessage):
    """The closing that the store has, which may be an earlier one. Empty without an account."""

    at: datetime | None = None
    reason: str | None = None
    added_users: int = 0


class RequestRecord(OwnMessage):
    """Result of the query ``record``: what the store must have of a request.

    ``request`` has the approver whom the newest link asks. ``link_ordinal`` is 0 if the customer
    was not asked yet. ``decision`` is set once the store has recorded it.
    """

    request_id: str
    request: SmartAccountRequest
    requested_at: datetime
    status: Status
    link_ordinal: int = 0
    needs_attention: tuple[str, ...] = ()
    needs_review: bool = False
    approved_at: datetime | None = None
    decision: Decision | None = None
    retry_at: datetime | None = None


class ErasedRequest(OwnMessage):
    """How a request had ended when its history was erased. It says nothing about a person.

    It stays in Temporal for a store that is restored from a backup of before ``at``.
    """

    request_id: str
    account_domain: str
    decision: Decision
    closed_at: datetime | None = None
    link_ordinal: int
    at: datetime

    @property
    def is_open(self) -> bool:
        """Return True if there was an account, which nobody had closed."""
        return self.decision.status is Status.ACTIVE and self.closed_at is None


class Sweep(OwnMessage):
    """Start input of the sweep. It has no options, because any client can start a workflow."""


class Swept(OwnMessage):
    """Result of a sweep: how many differences of each kind it found."""

    differences: dict[str, int] = Field(default_factory=dict)
    is_held: bool = False
    """Too much was missing, so that an operator must choose what to do."""


class SendEmails(OwnMessage):
    """Send a batch of emails. A refused email does not affect the others.

    After ``until``, emails that are still refused temporarily are returned, not tried again.

    With ``closing``, close the account first, and send the emails about that.

    ``now`` is Temporal's time. A local activity needs it, because it knows only its worker's clock.
    """

    request_id: str
    emails: tuple[Email, ...]
    until: datetime | None = None
    closing: Closing | None = None
    now: datetime | None = None


class EmailOutcome(StepResult):
    """The outcome of one attempt to send an email. ``answer`` is the reply if it was refused."""

    state: EmailState
    at: datetime
    answer: str | None = None
