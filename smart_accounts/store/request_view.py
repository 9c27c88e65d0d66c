"""A request as the API and the webhooks show it. Models grow by optional fields only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from smart_accounts.contract.actions import Role
from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus, Status
from smart_accounts.store.records import AccountState, StoredRequest


class ResponseBody(BaseModel):
    """Base of the response bodies. Clients must ignore fields that they do not know."""

    model_config = ConfigDict(frozen=True)


class Email(ResponseBody):
    """One email. `answer` is the mail server's reply if it refused the email or returned it."""

    kind: EmailKind
    recipient: str
    state: EmailState
    at: datetime
    answer: str | None

    @classmethod
    def of(cls, email: EmailStatus) -> Self:
        return cls.model_validate(email.model_dump())


class Account(ResponseBody):
    """The account of a request. Its other fields tell who closed the account, when and why."""

    state: AccountState
    closed_at: datetime | None
    closed_by: str | None
    reason: str | None

    @classmethod
    def of(cls, stored: StoredRequest) -> Self | None:
        if stored.account_state is None:
            return None
        return cls(
            state=stored.account_state,
            closed_at=stored.closed_at,
            closed_by=Role.OPERATOR if stored.closed_at else None,
            reason=stored.close_reason,
        )


class RequestFields(ResponseBody):
    """A request and its status. Times are in UTC."""

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
    retry_at: datetime | None
    """When to try again, if a limit rejected the request."""
    account: Account | None
    """Absent before the account is opened, and after a request that ended without one."""

    @classmethod
    def with_fields(cls, stored: StoredRequest, **more: Any) -> Self:
        names = RequestFields.model_fields.keys() - {"request_id", "account"}
        fields = {name: getattr(stored, name) for name in names}
        own = {"request_id": stored.id, "account": Account.of(stored)}
        return cls.model_validate(fields | own | more)


class RequestDetail(RequestFields):
    """One request with its emails."""

    emails: tuple[Email, ...]

    @classmethod
    def of(cls, stored: StoredRequest, emails: Sequence[EmailStatus], **more: Any) -> Self:
        return cls.with_fields(stored, emails=[each.model_dump() for each in emails], **more)


class ChangedRequest(RequestDetail):
    """A request right after a change. `sequence` counts its changes since its start."""

    sequence: int
