"""Emails that outlive their request: the last refused ones, and those about a closed account."""

import contextlib

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.field_errors import FieldError
    from smart_accounts.contract.names import (
        REMAINING_EMAILS_TYPE,
        closing_id,
        erased_id,
        remaining_emails_id,
    )
    from smart_accounts.contract.steps import CloseAccount, ClosedAccount, Email, SendEmails
    from smart_accounts.temporal.guard import invalid_request
    from workflows import account_steps
    from workflows.emails import account_closed_emails
    from workflows.mailing import send


@workflow.defn(name=REMAINING_EMAILS_TYPE)
class RemainingEmailsWorkflow:
    def __init__(self) -> None:
        self._closed: ClosedAccount | None = None

    @workflow.run
    async def run(self, remaining: SendEmails) -> None:
        # A client with another request_id would otherwise occupy the id of a closing.
        its_id, request_id = workflow.info().workflow_id, remaining.request_id
        if its_id == erased_id(request_id):
            return  # only its memo counts
        if its_id not in (remaining_emails_id(request_id), closing_id(request_id)):
            message = "does not belong to the workflow id"
            raise invalid_request([FieldError(field="request_id", message=message)])
        if remaining.closing:
            closed = await account_steps.close_account(
                CloseAccount(
                    request_id=remaining.request_id, closing=remaining.closing, at=workflow.now()
                )
            )
            self._closed = closed
            if closed.at is None:
                return  # there is no active account
            emails = account_closed_emails(closed.added_users)
            remaining = remaining.model_copy(update={"emails": emails})
        await send(remaining, lambda _email, _outcome: None)

    @workflow.query
    def closed_account(self) -> ClosedAccount | None:
        """Return the closing in the store, or ``None`` before the store has responded."""
        return self._closed


async def hand_over(request_id: str, emails: tuple[Email, ...], account_domain: str) -> str:
    """Start a workflow that sends the emails, so that the request can close. Returns its id."""
    its_id = remaining_emails_id(request_id)
    with contextlib.suppress(WorkflowAlreadyStartedError):  # before this request was reset
        await workflow.start_child_workflow(
            RemainingEmailsWorkflow.run,
            SendEmails(request_id=request_id, emails=emails),
            id=its_id,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            static_summary=f"Remaining emails for {account_domain}",
        )
    return its_id
