"""Emails that were still refused for now when their request had ended: they go on without it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.names import REMAINING_EMAILS_TYPE
    from smart_accounts.contract.steps import SendEmails
    from workflows.mailing import send


@workflow.defn(name=REMAINING_EMAILS_TYPE)
class RemainingEmailsWorkflow:
    @workflow.run
    async def run(self, remaining: SendEmails) -> None:
        await send(remaining, lambda _email, _outcome: None)
