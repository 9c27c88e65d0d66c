"""The request form: turns the typed text into a request, or into error messages."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import ValidationError

from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.messages import Requester, SmartAccountRequest, user_entries

LABELS = {
    "account_name": "Account name",
    "customer_email": "Customer email",
    "account_domain": "Account domain",
    "note_to_customer": "Note to customer",
    "user_emails": "User emails",
    "note_to_added_users": "Note to added users",
}
ADDRESSES = "user_emails"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ENTRY = re.compile(r"entry (\d+) (.*)")


@dataclass(frozen=True)
class RequestForm:
    """The fields as text. ``id`` is set when the form is opened, and kept until it is sent."""

    values: Mapping[str, str]
    id: str

    @classmethod
    def of(cls, sent: Mapping[str, str]) -> "RequestForm":
        id_ = sent.get("form_id", "")
        values = {name: sent.get(name, "") for name in LABELS}
        return cls(values, id_ if is_form_id(id_) else new_form_id())

    @classmethod
    def from_request(cls, request: SmartAccountRequest, form_id: str) -> "RequestForm":
        """Return the form with the normalised values of a request."""
        values = {name: getattr(request, name) or "" for name in LABELS}
        return cls(values | {ADDRESSES: "\n".join(request.user_emails)}, form_id)

    @cached_property
    def addresses(self) -> list[str]:
        return user_entries(self.values[ADDRESSES])

    def to_request(self, requester: Requester) -> SmartAccountRequest:
        """Return the request.

        Raises:
            BadInput: the form has errors. Each error is a sentence to show next to its field.
        """
        given = {name: value for name, value in self.values.items() if value.strip()}
        try:
            return SmartAccountRequest.model_validate(
                given | {ADDRESSES: self.addresses, "requester": requester}
            )
        except ValidationError as error:
            raise BadInput([self._sentence(each) for each in field_errors(error)]) from None

    def _sentence(self, error: FieldError) -> FieldError:
        text = f"{LABELS.get(error.field, 'The request')} {error.message}."
        if entry := _ENTRY.fullmatch(error.message):
            number, rule = entry.groups()
            text = f"Entry {number}, “{self.addresses[int(number) - 1]}”, {rule}."
        return FieldError(field=error.field, message=text)

    def idempotency_key(self, request: SmartAccountRequest) -> str:
        """Return the idempotency key. The same content of the same form creates one request.

        The key depends on the content, so that a form that is changed after going back creates
        another request.
        """
        content = f"{self.id}:{request.model_dump_json()}"
        return hashlib.sha256(content.encode()).hexdigest()


def new_form_id() -> str:
    return secrets.token_urlsafe(16)


def is_form_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None
