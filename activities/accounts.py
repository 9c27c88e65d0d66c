"""Short steps on the account store. All are local activities except ``issue_link``."""

from pydantic import ValidationError
from temporalio import activity

from activities.measurements import account_activated
from smart_accounts.checks import reasons_for_review
from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.steps import (
    Approve,
    Checked,
    CloseAccount,
    ClosedAccount,
    Decision,
    IssueLink,
    OpenRequest,
    RecordDecision,
)
from smart_accounts.store.limits import Limits
from smart_accounts.store.store import AccountStore


class AccountActivities:
    """Every activity is safe to repeat, because the store keys each write by the request's id."""

    def __init__(self, store: AccountStore, limits: Limits) -> None:
        self._store = store
        self._limits = limits

    @activity.defn
    async def open_request(self, new: OpenRequest) -> Checked:
        """Check all field rules, run the system checks, then open the provisional account.

        A run that replaces a lost workflow continues the request that the store has.
        """
        if new.restarts:
            checked = await self._store.restarts.take_over(new)
        else:
            try:
                SmartAccountRequest.model_validate(new.request.model_dump())
            except ValidationError as error:
                return Checked(invalid=tuple(field_errors(error)))
            reasons = reasons_for_review(new.request)
            checked = await self._store.requests.open(new, reasons, self._limits)
        return checked.model_copy(
            update={"emails_first_locally": True, "keeps_early_answers": True}
        )

    @activity.defn
    async def approve_request(self, approval: Approve) -> None:
        await self._store.requests.approve(approval)

    @activity.defn
    async def issue_link(self, link: IssueLink) -> Checked:
        """Run the checks again, because the approver may be new, then issue the link."""
        return await self._store.requests.issue_link(
            link, reasons_for_review(link.request), self._limits
        )

    @activity.defn
    async def activate_account(self, record: RecordDecision) -> Decision:
        decision, accepted_at = await self._store.requests.activate(record)
        if accepted_at:  # otherwise the account was activated before
            account_activated(accepted_at)
        return decision

    @activity.defn
    async def close_request(self, record: RecordDecision) -> Decision:
        return await self._store.requests.close(record)

    @activity.defn
    async def close_account(self, close: CloseAccount) -> ClosedAccount:
        return await self._store.requests.close_account(close)
