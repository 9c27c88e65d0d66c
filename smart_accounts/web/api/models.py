"""The bodies and parameters of the API. They grow by optional fields only."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field, WithJsonSchema

from smart_accounts.contract import actions, messages
from smart_accounts.contract.fields import EmailAddress, Note, Reason
from smart_accounts.contract.messages import Status
from smart_accounts.store.listing import Listed
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.request_view import Email, RequestFields, ResponseBody

MAX_PAGE = 100_000
MAX_LIMIT = 100
_NO_CONTROLS = r"^[^\x00-\x1f\x7f]*$"  # PostgreSQL accepts no NUL


# ---- request bodies and parameters ---------------------------------------------------------

_EMAIL: dict[str, Any] = {"type": "string", "format": "email"}
_NOTE: dict[str, Any] = {
    "type": ["string", "null"],
    "description": "Plain text of at most 1024 characters. Line breaks are kept.",
}
_FIELDS: dict[str, Any] = {
    "account_name": {
        "type": "string",
        "description": "1 to 120 characters on one line, without `<`, `>`, web addresses and"
        " invisible characters.",
    },
    "customer_email": {
        **_EMAIL,
        "description": "The address of the person who may accept. It must differ from the"
        " requester's own.",
    },
    "account_domain": {
        "type": ["string", "null"],
        "description": "The company's own DNS name. Public suffixes and free-mail domains are"
        " rejected. Default: the domain of `customer_email`.",
    },
    "note_to_customer": _NOTE,
    "user_emails": {
        "type": ["array", "null"],
        "items": _EMAIL,
        "maxItems": messages.MAX_USERS,
        "description": "The people besides the customer who get access once the account is active.",
    },
    "note_to_added_users": _NOTE,
}


def _describe(schema: dict[str, Any]) -> None:
    schema["properties"] = _FIELDS
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


class NewRequest(messages.AccountDetails):
    """A request to create. The token names the requester, and the service sets the deadline."""

    model_config = ConfigDict(json_schema_extra=_describe)


class NewApprover(messages.Message):
    """The new approver. The rules of a new request apply."""

    customer_email: EmailAddress

    model_config = ConfigDict(
        json_schema_extra={"properties": {"customer_email": _FIELDS["customer_email"]}}
    )


class Rejection(messages.Message):
    """Why an operator rejects the request. The requester is told the reason."""

    model_config = ConfigDict(
        json_schema_extra={"properties": {"reason": _NOTE | {"type": "string"}}}
    )

    reason: Reason


class Withdrawal(messages.Message):
    """Why the request is withdrawn, for the record. The customer is not told the reason."""

    reason: Note = None

    model_config = ConfigDict(json_schema_extra={"properties": {"reason": _NOTE}})


class NewClosing(messages.Message):
    """Why the account is closed. The customer, the requester and the added users are told."""

    model_config = ConfigDict(
        json_schema_extra={"properties": {"reason": _NOTE | {"type": "string"}}}
    )

    reason: Reason


class RunQuery(messages.Message):
    """Selects one of the requests with the same workflow id."""

    run: Annotated[
        UUID | None,
        WithJsonSchema({"type": "string", "format": "uuid"}),
        Field(description="The `request_id` of an older request. Default: the newest one."),
    ] = None

    @property
    def request_id(self) -> str | None:
        return str(self.run) if self.run else None


class ListQuery(messages.Message):
    status: Annotated[
        Status | None,
        WithJsonSchema({"$ref": "#/components/schemas/Status"}),
        Field(
            description="Only requests with this status. No request is listed as requested or"
            " activating."
        ),
    ] = None
    search: Annotated[
        str,
        Field(
            max_length=254,
            pattern=_NO_CONTROLS,
            description="A part of the account's name or domain or of the customer's address."
            " Upper and lower case are the same.",
        ),
    ] = ""
    page: Annotated[
        int, Field(ge=1, le=MAX_PAGE, description="The number of the page, from 1.")
    ] = 1
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Requests per page.")] = 25

    @property
    def offset(self) -> int:
        return (self.page - 1) * self.limit


# ---- response bodies; those of one request are in ``request_view`` -------------------------


class RequestSummary(RequestFields):
    """One request of a list. `last_email` is the email with the newest outcome."""

    last_email: Email | None

    @classmethod
    def of(cls, listed: Listed) -> Self:
        last = listed.last_email
        return cls.with_fields(listed.request, last_email=Email.of(last) if last else None)


class RequestPage(ResponseBody):
    """One page of a list, newest first. `total` counts the matching requests on all pages."""

    items: tuple[RequestSummary, ...]
    total: int
    page: int
    limit: int
    next: str | None
    """The path of the next page."""


class ActionResult(ResponseBody):
    """The result of an action. `message` says in a sentence what happened."""

    workflow_id: str
    request_id: str
    status: Status
    message: str

    @classmethod
    def of(cls, stored: StoredRequest, result: actions.ActionResult) -> Self:
        return cls(workflow_id=stored.workflow_id, request_id=stored.id, **result.model_dump())
