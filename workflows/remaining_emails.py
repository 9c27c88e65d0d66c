"""Emails still refused temporarily an hour after the end of their request."""

import contextlib

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.names import REMAINING_EMAILS_TYPE, remaining_emails_id
    from smart_accounts.contract.steps import Email, SendEmails
    from workflows.mailing import send


@workflow.defn(name=REMAINING_EMAILS_TYPE)
class RemainingEmailsWorkflow:
    @workflow.run
    async def run(self, remaining: SendEmails) -> None:
        await send(remaining, lambda _email, _outcome: None)


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
