"""The wire contract: what travels between clients, Temporal, the workflow and its activities.

Frozen models that grow only by optional fields. A client in any language sends the same JSON;
the field rules live in ``fields`` and hold wherever a model is built.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from smart_accounts.contract.fields import (
    AcceptanceWindow,
    AccountDomain,
    AccountName,
    Duration,
    EmailAddress,
    Name,
    Note,
    Printable,
)

DEFAULT_WINDOW = timedelta(days=90)
DEFAULT_REMINDERS = tuple(timedelta(days=day) for day in (30, 60, 83, 89))
MAX_USERS = 50
MAX_REMINDERS = 10


class Status(StrEnum):
    """Where a request stands. The last six are ends."""

    REQUESTED = "requested"
    PENDING = "pending"
    ACTIVATING = "activating"
    ACTIVE = "active"
    LAPSED = "lapsed"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    UNDELIVERABLE = "undeliverable"
    REJECTED = "rejected"

    @property
    def is_final(self) -> bool:
        return self not in (Status.REQUESTED, Status.PENDING, Status.ACTIVATING)


class Message(BaseModel):
    """Base of every message: frozen, closed against unknown fields, silent about bad values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class OwnMessage(Message):
    """What only the service writes: while releases change, the older one reads the newer one's."""

    model_config = ConfigDict(extra="ignore")


# ---- from clients to the workflow ----------------------------------------------------------


class Requester(Message):
    """The signed-in partner who asks; never typed into the form."""

    email: EmailAddress
    name: Name
    company: Name


def _domain_of_the_customer(validated: dict[str, Any]) -> str:
    email: str = validated["customer_email"]
    return email.rpartition("@")[2]


def _at_most_50(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > MAX_USERS:
        # Before the entries are looked at: one message, not one for each of thousands.
        raise PydanticCustomError("too_many", "must have at most 50 addresses")
    return value


def _without_repeats(emails: tuple[str, ...]) -> tuple[str, ...]:
    kept: dict[str, str] = {}
    for email in emails:
        kept.setdefault(email.casefold(), email)
    return tuple(kept.values())


class AccountWish(Message):
    """What a partner fills in: which Smart Account, for whom."""

    account_name: AccountName
    customer_email: EmailAddress
    account_domain: Annotated[
        AccountDomain, Field(default_factory=_domain_of_the_customer, validate_default=True)
    ]
    note_to_customer: Note = None
    user_emails: Annotated[
        tuple[EmailAddress, ...], BeforeValidator(_at_most_50), AfterValidator(_without_repeats)
    ] = ()
    note_to_added_users: Note = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values


class SmartAccountRequest(AccountWish):
    """The start input: a partner asks for a Smart Account for a customer."""

    requester: Requester
    acceptance_window: AcceptanceWindow = DEFAULT_WINDOW
    reminders: Annotated[tuple[Duration, ...], Field(max_length=MAX_REMINDERS)] = DEFAULT_REMINDERS

    @model_validator(mode="after")
    def _customer_is_not_the_requester(self) -> Self:
        if self.customer_email.casefold() == self.requester.email.casefold():
            # A partner may not authorise an account for a customer.
            raise PydanticCustomError(
                "customer_is_requester",
                "must differ from the requester's address",
                {"field": "customer_email"},  # a rule on two fields has no place of its own
            )
        return self

    @property
    def added_users(self) -> tuple[str, ...]:
        """Who gets access besides the customer, who has it anyway."""
        customer = self.customer_email.casefold()
        return tuple(email for email in self.user_emails if email.casefold() != customer)

    def address_of(self, email: "Email") -> str:
        match email.to:
            case Addressee.CUSTOMER:
                return self.customer_email
            case Addressee.REQUESTER:
                return self.requester.email
            case Addressee.ADDED_USER:
                return self.added_users[email.number - 1]


class Acceptance(Message):
    """Argument of the signal ``accepted``; recorded, nothing more."""

    accepted_by: Annotated[str, Field(min_length=1, max_length=254), Printable] | None = None


class Decline(Message):
    """Argument of the signal ``declined``."""

    reason: Note = None


class NewApprover(Message):
    """Argument of the update ``replace_approver``."""

    customer_email: EmailAddress


class Withdrawal(Message):
    """Argument of the update ``withdraw``; the customer is not told the reason."""

    reason: Note = None


# ---- from the workflow to clients ----------------------------------------------------------


class EmailKind(StrEnum):
    ACTIVATION = "activation"
    REQUEST_RECEIVED = "request-received"
    REMINDER = "reminder"
    EXPIRING = "expiring"
    ACTIVATED = "activated"
    WELCOME = "welcome"
    ACCESS_GRANTED = "access-granted"
    LAPSED = "lapsed"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    UNDELIVERABLE = "undeliverable"
    REJECTED = "rejected"


class EmailState(StrEnum):
    """How far an email is.

    ``failed`` was refused for good, ``bounced`` was taken and came back. ``dropped`` never shows:
    an email that became untrue before it was sent.
    """

    QUEUED = "queued"
    SENT = "sent"
    BOUNCED = "bounced"
    FAILED = "failed"
    DROPPED = "dropped"


class EmailStatus(OwnMessage):
    """``answer`` is what the mail server said when it refused the email or sent it back."""

    kind: EmailKind
    recipient: str
    state: EmailState
    at: datetime
    answer: str | None = None


class RequestStatus(OwnMessage):
    """Answer of the query ``status``. Times are UTC."""

    status: Status
    account_name: str
    account_domain: str
    deadline: datetime
    requested_at: datetime
    emails: tuple[EmailStatus, ...] = ()
    needs_attention: tuple[str, ...] = ()
    reason: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    next_step: str | None = None
    """What happens next, in a sentence without personal data."""


class ActionResult(OwnMessage):
    """Answer of the requester's updates: what happened, in a sentence without personal data."""

    status: Status
    message: str


class RequestResult(OwnMessage):
    """The workflow's result: how the request ended."""

    status: Status
    reason: str | None = None


# ---- between the workflow and its activities -----------------------------------------------


class Addressee(StrEnum):
    CUSTOMER = "customer"
    REQUESTER = "requester"
    ADDED_USER = "added-user"


class Email(OwnMessage):
    """Names one email of a request, without personal data.

    ``number``, from 1, is the link's ordinal for an activation email, the position in the
    request's ``reminders`` for a reminder, in ``added_users`` for an added user's email.
    """

    kind: EmailKind
    to: Addressee
    number: int = 1


class Bounce(OwnMessage):
    """Argument of the signal ``bounced``: an email came back; ``answer`` says why."""

    email: Email
    answer: Annotated[str, Field(max_length=300), Printable]


# ---- errors --------------------------------------------------------------------------------
