"""Mails that were still refused for now when their request had ended: they go on without it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.names import REMAINING_MAILS_TYPE
    from smart_accounts.contract.steps import SendEmails
    from workflows.mailing import send


@workflow.defn(name=REMAINING_MAILS_TYPE)
class RemainingMailsWorkflow:
    @workflow.run
    async def run(self, remaining: SendEmails) -> None:
        await send(remaining, lambda _email, _outcome: None)
