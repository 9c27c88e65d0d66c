"""The messages between clients, the workflow and its activities.

The models are frozen and grow only by optional fields. Clients in other languages send the same
JSON. The field rules are in ``fields`` and apply wherever a model is built.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError

from smart_accounts.contract.addresses import split_addresses
from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.fields import (
    MAX_EMAIL,
    AcceptanceWindow,
    AccountDomain,
    AccountName,
    Duration,
    EmailAddress,
    Name,
    NamedEmailAddress,
    Note,
    Printable,
    is_new,
)

# Do not change these two: open requests that named no window or no reminders read them again at
# each replay.
DEFAULT_WINDOW = timedelta(days=90)
DEFAULT_REMINDERS = tuple(timedelta(days=day) for day in (30, 60, 83, 89))
MAX_USERS = 50
MAX_REMINDERS = 10
CLOSING_TIME = timedelta(hours=1)
"""How long after the end of a request its run may still send its closing emails."""
REVIEW_TIME = timedelta(days=14)
"""How long a request waits for an operator's review before it lapses."""


class Status(StrEnum):
    """The status of a request. The last six are final."""

    REQUESTED = "requested"
    IN_REVIEW = "in_review"
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
        return self not in _NOT_FINAL


_NOT_FINAL = (Status.REQUESTED, Status.IN_REVIEW, Status.PENDING, Status.ACTIVATING)


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


def _at_most(limit: int, entries: str) -> BeforeValidator:
    """Check the length of a list before its entries, so that thousands give one message."""

    def check(value: Any) -> Any:
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > limit:
            raise PydanticCustomError("too_many", f"must have at most {limit} {entries}")
        return value

    return BeforeValidator(check)


def user_entries(pasted: str) -> list[str]:
    """Return the entries of a pasted list of users, at most one more than permitted.

    Text that is too long is not read, and counts as too many entries.
    """
    if len(pasted) > MAX_USERS * MAX_EMAIL:
        return [""] * (MAX_USERS + 1)
    return list(islice(split_addresses(pasted), MAX_USERS + 1))


def _without_repeats(emails: tuple[str, ...]) -> tuple[str, ...]:
    kept: dict[str, str] = {}
    entries: dict[str, int] = {}
    for number, email in enumerate(emails, 1):
        if email.casefold() in kept:
            continue
        kept[email.casefold()] = email
        earlier = entries.setdefault(mailbox(email), number)
        if earlier != number and is_new():
            message = f"entries {earlier} and {number} are the same mailbox"
            raise PydanticCustomError("same_mailbox", message)
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
        tuple[NamedEmailAddress, ...],
        _at_most(MAX_USERS, "addresses"),
        AfterValidator(_without_repeats),
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
    reminders: Annotated[tuple[Duration, ...], _at_most(MAX_REMINDERS, "entries")] = (
        DEFAULT_REMINDERS
    )

    @model_validator(mode="wrap")
    @classmethod
    def _customer_is_not_the_requester(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self]
    ) -> Self:
        request = handler(value)
        if isinstance(value, cls):
            return request  # part of another message: it was checked before, maybe by older rules
        customer, requester = request.customer_email, request.requester.email
        is_same = customer.casefold() == requester.casefold()
        if is_same or (is_new() and mailbox(customer) == mailbox(requester)):
            # A partner must not accept an account on behalf of a customer.
            raise PydanticCustomError(
                "customer_is_requester",
                "must differ from the requester's address",
                {"field": "customer_email"},  # pydantic names no field for a rule on two
            )
        return request

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
    """Argument of the signal ``declined``. ``report`` tells operators about the requester."""

    link: LinkOrdinal = None
    reason: Note = None
    report: bool = False


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
    REVIEW_NEEDED = "review-needed"
    WEBHOOK_DISABLED = "webhook-disabled"


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
    retry_at: datetime | None = None
    """When to try again, if a limit rejected the request."""
    next_step: str | None = None
    """What happens next, in sentences without personal data."""


class RequestResult(OwnMessage):
    """The result of the workflow. ``retry_at`` is set if a limit rejected the request."""

    status: Status
    reason: str | None = None
    retry_at: datetime | None = None
