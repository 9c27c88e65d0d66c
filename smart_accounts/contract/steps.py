"""What travels between the workflow and its activities."""

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
    """Store the request and its provisional account. ``request_id`` is the first run id."""

    request_id: str
    request: SmartAccountRequest
    requested_at: datetime
    deadline: datetime
    idempotency_key: str | None = None


class Checked(OwnMessage):
    """``refused`` is the reason why nothing was stored, ``needs_attention`` what looked odd.

    ``invalid`` is what breaks the rules that change with every release: it is no request.
    """

    refused: str | None = None
    invalid: tuple["FieldError", ...] = ()
    needs_attention: tuple[str, ...] = ()


class IssueLink(OwnMessage):
    """A new activation link, in place of the one before, for the request as it is now.

    ``ordinal`` counts the request's links from 1.
    """

    request_id: str
    request: SmartAccountRequest
    ordinal: int
    at: datetime


class Decision(OwnMessage):
    """The one decision on a request; ``status`` is the end it leads to."""

    status: Status
    at: datetime
    by: str | None = None
    reason: str | None = None


class RecordDecision(OwnMessage):
    """End a request; ``request`` is the one that was decided on, whoever is asked by now."""

    request_id: str
    decision: Decision
    request: SmartAccountRequest | None = None


class SendEmails(OwnMessage):
    """One occasion's emails: each is tried, whatever becomes of the others.

    After ``until`` what is still refused for now is handed back instead of tried again.
    """

    request_id: str
    emails: tuple[Email, ...]
    until: datetime | None = None


class EmailOutcome(OwnMessage):
    """What became of one email at one try; ``answer`` is the mail server's refusal."""

    state: EmailState
    at: datetime
    answer: str | None = None
