"""Field errors: what is wrong with an input. One message per field, which quotes no value."""

import re
from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from smart_accounts.contract.messages import OwnMessage
from smart_accounts.errors import SmartAccountsError


class FieldError(OwnMessage):
    """A message about one field. It never quotes the value."""

    field: str
    message: str


class BadInput(SmartAccountsError):
    """The input breaks field rules. Nothing was done."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = tuple(errors)


MAX_ERRORS = 200  # a message for each of thousands would take seconds

_PLAIN = {
    "missing": "is required",
    "json_invalid": "is not valid JSON",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "extra_forbidden": "is not a known field",
    "uuid_parsing": "must be the id of a request",
    "time_delta_parsing": "must be an ISO 8601 duration in days or less, such as P90D",
}
_SHOULD = re.compile(r"^\w+ should ")  # Input should be …, String should have …


def _field_error(error: ErrorDetails) -> FieldError:
    names = [str(part) for part in error["loc"] if isinstance(part, str)]
    entry = next((part + 1 for part in error["loc"] if isinstance(part, int)), None)
    message = _PLAIN.get(error["type"], _SHOULD.sub("must ", error["msg"]))
    own: str = error.get("ctx", {}).get("field", "request")
    field = ".".join(name if name.isidentifier() else "?" for name in names) or own
    return FieldError(field=field, message=f"entry {entry} {message}" if entry else message)


def to_field_errors(errors: Sequence[ErrorDetails]) -> list[FieldError]:
    """Return one plain message per error, in the order of the fields."""
    if len(errors) > MAX_ERRORS:
        return [FieldError(field="request", message=f"has more than {MAX_ERRORS} errors")]
    return [
        _field_error(each)
        for each in errors
        # The field that this default depends on has an error of its own.
        if each["type"] != "default_factory_not_called"
    ]


def field_errors(error: ValidationError) -> list[FieldError]:
    """Return one plain message per error of a pydantic model."""
    return to_field_errors(error.errors(include_url=False, include_input=False))
