"""The messages between clients, the workflow and its activities.

The models are frozen and grow only by optional fields. Clients in other languages send the same
JSON. The field rules are in ``fields`` and apply wherever a model is built.
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
    MAX_DOMAIN,
    AcceptanceWindow,
    AccountDomain,
    AccountName,
    Duration,
    EmailAddress,
    Name,
    Note,
    Printable,
    Reason,
)

# Do not change these two: open requests that named no window or no reminders read them again at
# each replay.
DEFAULT_WINDOW = timedelta(days=90)
DEFAULT_REMINDERS = tuple(timedelta(days=day) for day in (30, 60, 83, 89))
MAX_USERS = 50
MAX_REMINDERS = 10
CLOSING_TIME = timedelta(hours=1)
"""How long after the end of a request its run may still send its closing emails."""


class Status(StrEnum):
    """The status of a request. The last six are final."""

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
    """Base of all messages. Rejects unknown fields, and quotes no value in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class OwnMessage(Message):
    """Base of messages that only the service writes. Ignores unknown fields.

    While two releases run side by side, the older one reads messages of the newer one.
    """

    model_config = ConfigDict(extra="ignore")


# ---- from clients to the workflow ----------------------------------------------------------


class Requester(Message):
    """The signed-in partner who makes the request. The form has no field for it."""

    email: EmailAddress
    name: Name
    company: Name


def _domain_of_the_customer(validated: dict[str, Any]) -> str:
    email: str = validated["customer_email"]
    return email.rpartition("@")[2]


def _at_most_50(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > MAX_USERS:
        # Check this before the entries, so that thousands of them give one message.
        raise PydanticCustomError("too_many", "must have at most 50 addresses")
    return value


def _without_repeats(emails: tuple[str, ...]) -> tuple[str, ...]:
    kept: dict[str, str] = {}
    for email in emails:
        kept.setdefault(email.casefold(), email)
    return tuple(kept.values())


class AccountDetails(Message):
    """What a partner fills in: the Smart Account and the people."""

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


class SmartAccountRequest(AccountDetails):
    """The start input of the workflow."""

    requester: Requester
    acceptance_window: AcceptanceWindow = DEFAULT_WINDOW
    reminders: Annotated[tuple[Duration, ...], Field(max_length=MAX_REMINDERS)] = DEFAULT_REMINDERS

    @model_validator(mode="after")
    def _customer_is_not_the_requester(self) -> Self:
        if self.customer_email.casefold() == self.requester.email.casefold():
            # A partner must not accept an account on behalf of a customer.
            raise PydanticCustomError(
                "customer_is_requester",
                "must differ from the requester's address",
                {"field": "customer_email"},  # pydantic names no field for a rule on two
            )
        return self

    @property
    def added_users(self) -> tuple[str, ...]:
        """Return the users who get access besides the customer."""
        customer = self.customer_email.casefold()
        return tuple(email for email in self.user_emails if email.casefold() != customer)

    @property
    def requester_email(self) -> str:
        return self.requester.email


LinkOrdinal = Annotated[int, Field(ge=1)] | None
"""The link that an answer came through. An answer without one counts for the link in force."""


class Acceptance(Message):
    """Argument of the signal ``accepted``. The address is only recorded."""

    link: LinkOrdinal = None
    accepted_by: Annotated[str, Field(min_length=1, max_length=254), Printable] | None = None


class Decline(Message):
    """Argument of the signal ``declined``."""

    link: LinkOrdinal = None
    reason: Note = None


class NewApprover(Message):
    """Argument of the update ``replace_approver``."""

    customer_email: EmailAddress


class Withdrawal(Message):
    """Argument of the update ``withdraw``. The customer is not told the reason."""

    reason: Note = None


class Role(StrEnum):
    REQUESTER = "requester"
    OPERATOR = "operator"


class Actor(Message):
    """Who acts, as the client states it. The pages and the API take both from the sign-in."""

    role: Role
    subject: Annotated[str, Field(min_length=1, max_length=255), Printable]


def _operator(by: Actor) -> Actor:
    if by.role is not Role.OPERATOR:
        raise PydanticCustomError("role", "must be an operator")
    return by


class Closing(Message):
    """Close an active account. Everyone who had access is told the reason."""

    # No field rule, because it is only compared with what the store has.
    account_domain: Annotated[str, Field(max_length=MAX_DOMAIN), Printable]
    reason: Reason
    by: Annotated[Actor, AfterValidator(_operator)]


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
    CLOSED = "closed"


class EmailState(StrEnum):
    """The state of an email.

    ``failed`` means that a mail server refused it permanently or for five days, ``bounced`` that
    a mail server took it and sent it back. ``dropped`` means that it was outdated before it was
    sent. A dropped email is not shown.
    """

    QUEUED = "queued"
    SENT = "sent"
    BOUNCED = "bounced"
    FAILED = "failed"
    DROPPED = "dropped"


class EmailStatus(OwnMessage):
    """The status of an email. ``answer`` is the mail server's reply if it refused or bounced it."""

    kind: EmailKind
    recipient: str
    state: EmailState
    at: datetime
    answer: str | None = None


class RequestStatus(OwnMessage):
    """Result of the query ``status``. Times are UTC."""

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
    """What happens next, in sentences without personal data."""


class ActionMessage(StrEnum):
    """What people read after an action."""

    RESENT = "A new activation email is on its way. The previous link no longer works."
    APPROVER_REPLACED = (
        "An activation email to the new approver is on its way. The previous link no longer works."
    )
    WITHDRAWN = "The request is withdrawn. The customer is told."
    CLOSED = "The account is closed. The customer, the requester and the added users are told."
    CLOSE_RECEIVED = "Received. The account is closed as soon as a worker runs."


class ActionResult(OwnMessage):
    """The result of an action. The message has no personal data."""

    status: Status
    message: str


class RequestResult(OwnMessage):
    """The result of the workflow."""

    status: Status
    reason: str | None = None
