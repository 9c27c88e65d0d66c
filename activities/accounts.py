"""Short steps on the account store, run as local activities within the workflow task."""

from pydantic import ValidationError
from temporalio import activity

from smart_accounts.checks import oddities
from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.steps import Checked, Decision, IssueLink, OpenRequest, RecordDecision
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore


class AccountActivities:
    """Each is safe to run again: the store keys every write by the request's id."""

    def __init__(self, store: AccountStore, limits: Limits) -> None:
        self._store = store
        self._ceilings = limits

    @activity.defn
    async def open_request(self, new: OpenRequest) -> Checked:
        """The field rules with nothing left out, system checks, then the provisional account."""
        try:
            SmartAccountRequest.model_validate(new.request.model_dump())
        except ValidationError as error:
            return Checked(invalid=tuple(field_errors(error)))
        found = oddities(new.request)
        refused = await self._store.open_request(new, found, self._ceilings)
        return Checked(refused=refused, needs_attention=found)

    @activity.defn
    async def issue_link(self, link: IssueLink) -> Checked:
        """The checks again, for the approver may be another, then the new link."""
        found = oddities(link.request)
        refused = await self._store.issue_link(link, found, self._ceilings)
        return Checked(refused=refused, needs_attention=found)

    @activity.defn
    async def activate_account(self, record: RecordDecision) -> Decision:
        return await self._store.activate(record)

    @activity.defn
    async def close_request(self, record: RecordDecision) -> Decision:
        return await self._store.close(record)
