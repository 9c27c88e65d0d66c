"""Checks of what a client gives a request: its workflow id, its memo and a new approver."""

from typing import TypedDict

from pydantic import ValidationError
from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.actions import NewApprover
    from smart_accounts.contract.field_errors import FieldError, field_errors
    from smart_accounts.contract.fields import rules_of_open_requests
    from smart_accounts.contract.identity import identity_of
    from smart_accounts.contract.messages import SmartAccountRequest
    from smart_accounts.contract.names import (
        IDEMPOTENCY_KEY,
        REQUESTER_ISSUER,
        REQUESTER_SUBJECT,
        RESTARTS,
        workflow_id,
    )
    from smart_accounts.temporal.guard import invalid_request
    from smart_accounts.temporal.memo import memo_text
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


class MemoFields(TypedDict):
    """The fields of ``OpenRequest`` that come from the memo."""

    idempotency_key: str | None
    requester_issuer: str | None
    requester_subject: str | None
    restarts: str | None


def memo_fields() -> MemoFields:
    """Return the start's idempotency key, the requester's identity, and the request it restarts.

    Any client can set the memo, so ignore all but printable strings that are not too long.
    """
    owner = identity_of(
        workflow.memo_value(REQUESTER_ISSUER, None), workflow.memo_value(REQUESTER_SUBJECT, None)
    )
    return MemoFields(
        idempotency_key=memo_text(workflow.memo_value(IDEMPOTENCY_KEY, None)),
        requester_issuer=owner.issuer if owner else None,
        requester_subject=owner.subject if owner else None,
        restarts=memo_text(workflow.memo_value(RESTARTS, None)),
    )


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
