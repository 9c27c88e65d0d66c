"""Checks of what a client gives a request: its workflow id, its memo and a new approver."""

from pydantic import ValidationError
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.field_errors import FieldError, field_errors
    from smart_accounts.contract.fields import rules_of_open_requests
    from smart_accounts.contract.messages import NewApprover, SmartAccountRequest
    from smart_accounts.contract.names import IDEMPOTENCY_KEY, MAX_KEY, workflow_id
    from smart_accounts.temporal.guard import invalid_request
    from workflows.links import action_refused


def check_workflow_id(request: SmartAccountRequest) -> None:
    """
    Raises:
        ApplicationError: The workflow id does not belong to the account domain.
    """
    expected = workflow_id(request.account_domain)
    if workflow.info().workflow_id != expected:
        message = f"must be {expected} for this account domain"
        raise invalid_request([FieldError(field="workflow id", message=message)])


def idempotency_key() -> str | None:
    """Return the key that the start was sent with.

    Any client can set the memo, so ignore all but a printable string of at most 64 characters.
    """
    key = workflow.memo_value(IDEMPOTENCY_KEY, None)
    return key if isinstance(key, str) and key.isprintable() and len(key) <= MAX_KEY else None


def with_approver(request: SmartAccountRequest, new: NewApprover) -> SmartAccountRequest:
    """Return the request with another approver.

    Raises:
        ApplicationError: The approver is the same, or breaks a rule of the request.
    """
    if new.customer_email == request.customer_email:
        raise action_refused("This is already the approver's address.")
    try:
        with rules_of_open_requests():
            return SmartAccountRequest.model_validate(
                request.model_dump() | {"customer_email": new.customer_email}
            )
    except ValidationError as error:
        raise invalid_request(field_errors(error)) from None
