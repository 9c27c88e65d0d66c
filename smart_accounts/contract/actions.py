"""The messages of actions on a request: what a requester or an operator sends, and the result."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from smart_accounts.contract.fields import MAX_DOMAIN, EmailAddress, Note, Printable, Reason
from smart_accounts.contract.identity import MAX_PART
from smart_accounts.contract.messages import Message, OwnMessage, Status


class Role(StrEnum):
    REQUESTER = "requester"
    OPERATOR = "operator"


class Actor(Message):
    """Who makes an update. Pages and the API take it from the sign-in. Other clients state it."""

    role: Role
    subject: Annotated[str, Field(min_length=1, max_length=MAX_PART), Printable]


class Resend(Message):
    """Argument of the update ``resend_activation_email``."""

    by: Actor | None = None


class NewApprover(Message):
    """Argument of the update ``replace_approver``."""

    customer_email: EmailAddress
    by: Actor | None = None


class Withdrawal(Message):
    """Argument of the update ``withdraw``. The customer is not told the reason."""

    reason: Note = None
    by: Actor | None = None

    @property
    def role(self) -> Role:
        return self.by.role if self.by else Role.REQUESTER

    def repeats(self, status: Status, decided_by: str | None) -> bool:
        """Return True if the request was withdrawn before in the same role."""
        return status is Status.WITHDRAWN and decided_by == self.role


class ReviewDecision(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


class Review(Message):
    """Argument of the update ``review``. The requester is told the reason of a rejection."""

    decision: ReviewDecision
    reason: Note = None
    by: Annotated[str, Field(max_length=MAX_PART), Printable] | None = None

    @model_validator(mode="after")
    def _rejection_has_a_reason(self) -> Self:
        if self.decision is ReviewDecision.REJECT and not self.reason:
            raise PydanticCustomError("no_reason", "is required to reject", {"field": "reason"})
        return self

    @property
    def done_message(self) -> "ActionMessage":
        """What the operator reads."""
        if self.decision is ReviewDecision.APPROVE:
            return ActionMessage.REVIEW_APPROVED
        return ActionMessage.REVIEW_REJECTED


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


class ActionMessage(StrEnum):
    """What people read after an action."""

    RESENT = "A new activation email is on its way. The previous link no longer works."
    APPROVER_REPLACED = (
        "An activation email to the new approver is on its way. The previous link no longer works."
    )
    SAME_APPROVER = "This is already the approver's address. Nothing was changed."
    WITHDRAWN = "The request is withdrawn. The customer is told."
    WITHDRAWN_UNASKED = "The request is withdrawn. The customer was not asked."
    WITHDRAWN_BEFORE = "The request was already withdrawn. Nothing was changed."
    REVIEW_APPROVED = "The request is approved. The customer gets the activation email."
    REVIEW_REJECTED = "The request is rejected. The requester is told the reason."
    CLOSED = "The account is closed. The customer, the requester and the added users are told."
    CLOSE_RECEIVED = "Received. The account is closed as soon as a worker runs."


class ActionResult(OwnMessage):
    """The result of an action. The message has no personal data."""

    status: Status
    message: str

    @property
    def is_repeat(self) -> bool:
        """Return True if the same was done before, so that nothing was changed."""
        return self.message in (ActionMessage.SAME_APPROVER, ActionMessage.WITHDRAWN_BEFORE)
