"""What the API takes and gives. It grows by optional fields only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from smart_accounts.contract.messages import (
    MAX_USERS,
    AccountWish,
    ActionResult,
    EmailKind,
    EmailState,
    EmailStatus,
    Message,
    NewApprover,
    Status,
    Withdrawal,
)
from smart_accounts.store.listing import Listed
from smart_accounts.store.records import StoredRequest

MAX_PAGE = 100_000
MAX_LIMIT = 100
_NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"  # PostgreSQL takes no NUL


# ---- taken -----------------------------------------------------------------------------------

_EMAIL: dict[str, Any] = {"type": "string", "format": "email"}
_NOTE: dict[str, Any] = {
    "type": ["string", "null"],
    "description": "Plain text of at most 1024 characters; line breaks are kept.",
}
_TAKEN: dict[str, Any] = {
    "account_name": {
        "type": "string",
        "description": "1 to 120 characters on one line, without `<`, `>`, web addresses and"
        " invisible characters.",
    },
    "customer_email": {
        **_EMAIL,
        "description": "The one address of the person who may accept; not the requester's own.",
    },
    "account_domain": {
        "type": ["string", "null"],
        "description": "The company's own DNS name, no public suffix and no free-mail provider's."
        " Default: the domain of `customer_email`.",
    },
    "note_to_customer": _NOTE,
    "user_emails": {
        "type": ["array", "null"],
        "items": _EMAIL,
        "maxItems": MAX_USERS,
        "description": "Who gets access besides the customer once the account is active.",
    },
    "note_to_added_users": _NOTE,
}


def _describe(schema: dict[str, Any]) -> None:
    schema["properties"] = _TAKEN
    schema["examples"] = [
        {
            "account_name": "Acme Networks",
            "customer_email": "ada@acme.example",
            "account_domain": "acme.example",
            "note_to_customer": "As agreed on the phone.",
            "user_emails": ["bo@acme.example"],
            "note_to_added_users": "Welcome aboard.",
        }
    ]


class NewRequest(AccountWish):
    """A request to be made. The requester is whom the token names; the deadline is ours."""

    model_config = ConfigDict(json_schema_extra=_describe)


class Approver(NewApprover):
    """Another person of the customer's, under the rules of a new request."""

    model_config = ConfigDict(
        json_schema_extra={"properties": {"customer_email": _TAKEN["customer_email"]}}
    )


class Reason(Withdrawal):
    """Why, for the record; the customer is not told."""

    model_config = ConfigDict(json_schema_extra={"properties": {"reason": _NOTE}})


class Run(Message):
    """Which of the requests of one workflow id is meant."""

    run: Annotated[
        UUID | None,
        WithJsonSchema({"type": "string", "format": "uuid"}),
        Field(description="The `request_id` of an older request; default: the newest."),
    ] = None

    @property
    def request_id(self) -> str | None:
        return str(self.run) if self.run else None


class ListQuery(Message):
    status: Annotated[
        Status | None,
        WithJsonSchema({"type": "string", "enum": [*Status]}),
        Field(description="Only those that stand there."),
    ] = None
    search: Annotated[
        str,
        Field(
            max_length=254,
            pattern=_NO_CONTROLS,
            description="A part of the account's name or domain or of the customer's address, in"
            " any letter case.",
        ),
    ] = ""
    page: Annotated[int, Field(ge=1, le=MAX_PAGE, description="Counted from 1.")] = 1
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="How many on a page.")] = 25

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.limit


# ---- given -----------------------------------------------------------------------------------


class Given(BaseModel):
    """Base of the answers: who reads them must allow for fields yet to come."""

    model_config = ConfigDict(frozen=True)


class GivenEmail(Given):
    """One email; `answer` is what the mail server said when it refused it or sent it back."""

    kind: EmailKind
    recipient: str
    state: EmailState
    at: datetime
    answer: str | None

    @classmethod
    def of(cls, email: EmailStatus) -> Self:
        return cls.model_validate(email.model_dump())


class GivenRequest(Given):
    """A request and where it stands. Times are UTC."""

    workflow_id: str
    """The same for every request of one domain."""
    request_id: str
    status: Status
    account_name: str
    account_domain: str
    customer_email: str
    requested_at: datetime
    deadline: datetime
    needs_attention: tuple[str, ...]
    reason: str | None
    decided_by: str | None
    decided_at: datetime | None

    @classmethod
    def _of(cls, stored: StoredRequest, **more: Any) -> Self:
        fields = {name: getattr(stored, name) for name in cls.model_fields if name not in _OWN}
        return cls.model_validate(fields | {"request_id": stored.id} | more)


_OWN = {"request_id", "emails", "last_email"}


class WholeRequest(GivenRequest):
    """One request with its emails."""

    emails: tuple[GivenEmail, ...]

    @classmethod
    def of(cls, stored: StoredRequest, emails: Sequence[EmailStatus]) -> Self:
        return cls._of(stored, emails=[each.model_dump() for each in emails])


class ListedRequest(GivenRequest):
    """One request of a list; `last_email` is the email that something last happened to."""

    last_email: GivenEmail | None

    @classmethod
    def of(cls, listed: Listed) -> Self:
        last = listed.last_email
        return cls._of(listed.request, last_email=GivenEmail.of(last) if last else None)


class RequestPage(Given):
    """One page, newest first; `total` counts what was asked for on all pages."""

    items: tuple[ListedRequest, ...]
    total: int
    page: int
    limit: int
    next: str | None
    """Where the next page is."""


class ActionTaken(Given):
    """What happened, in a sentence."""

    workflow_id: str
    request_id: str
    status: Status
    message: str

    @classmethod
    def of(cls, stored: StoredRequest, result: ActionResult) -> Self:
        return cls(workflow_id=stored.workflow_id, request_id=stored.id, **result.model_dump())
