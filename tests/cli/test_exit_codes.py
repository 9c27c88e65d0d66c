"""Which error leads to which exit code, and to which ``kind`` in JSON output."""

import pytest
import typer
from pydantic import ValidationError

from smart_accounts.cli.exit_codes import ERROR_KINDS, failure_of
from smart_accounts.contract.actions import NewApprover
from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.errors import BadSetting, NotFound, Rejected, Unavailable


def validation_error() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        NewApprover.model_validate({"customer_email": "ada"})
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (Rejected("The domain is taken."), 1, "refused"),
        (NotFound("There is no such request."), 1, "refused"),
        (validation_error(), 2, "bad-input"),
        (BadInput([FieldError(field="customer_email", message="is required")]), 2, "bad-input"),
        (BadSetting("A setting is missing."), 2, "bad-input"),
        (typer.BadParameter("It is wrong."), 2, "bad-input"),
        (Unavailable("Temporal is down."), 3, "unavailable"),
        (RuntimeError("A bug."), 70, "fault"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_exit_code_and_kind(error: Exception, code: int, kind: str) -> None:
    failure = failure_of(error)
    assert (failure.exit_code, ERROR_KINDS[failure.exit_code]) == (code, kind)
    assert failure.message
