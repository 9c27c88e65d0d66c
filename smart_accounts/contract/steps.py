"""The messages between the workflow and its activities."""

from datetime import datetime

from smart_accounts.contract.field_errors import FieldError
from smart_accounts.contract.messages import (
    Email,
    EmailState,
    OwnMessage,
    SmartAccountRequest,
    Status,
)


class OpenRequest(OwnMessage):
    """Store a request and its provisional account. ``request_id`` is the first run id."""

    request_id: str
    request: SmartAccountRequest
    requested_at: datetime
    deadline: datetime
    idempotency_key: str | None = None


class Checked(OwnMessage):
    """The result of the checks of a request.

    ``refused`` is the reason if the request is rejected, and then nothing is stored. ``invalid``
    lists errors of rules that are checked only once, because they change between releases.
    ``needs_attention`` lists what an operator should look at.
    """

    refused: str | None = None
    invalid: tuple[FieldError, ...] = ()
    needs_attention: tuple[str, ...] = ()


class IssueLink(OwnMessage):
    """Replace the activation link. ``ordinal`` counts the links of the request from 1.

    ``request`` has the approver who gets the new link.
    """

    request_id: str
    request: SmartAccountRequest
    ordinal: int
    at: datetime


class Decision(OwnMessage):
    """The decision on a request. ``status`` is the final status that it leads to."""

    status: Status
    at: datetime
    by: str | None = None
    reason: str | None = None


class RecordDecision(OwnMessage):
    """End a request. ``request`` is the request at the time of the decision."""

    request_id: str
    decision: Decision
    request: SmartAccountRequest | None = None


class SendEmails(OwnMessage):
    """Send a batch of emails. A refused email does not affect the others.

    After ``until``, emails that are still refused temporarily are returned, not tried again.
    """

    request_id: str
    emails: tuple[Email, ...]
    until: datetime | None = None


class EmailOutcome(OwnMessage):
    """The outcome of one attempt to send an email. ``answer`` is the reply if it was refused."""

    state: EmailState
    at: datetime
    answer: str | None = None
