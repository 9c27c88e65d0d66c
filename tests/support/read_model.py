"""The status of a request as the store has it, in the form of the query ``status``."""

from smart_accounts.contract.messages import RequestStatus
from smart_accounts.store.store import AccountStore


async def status_in(store: AccountStore, request_id: str) -> RequestStatus:
    request = await store.requests.find(request_id)
    assert request
    names = RequestStatus.model_fields.keys() - {"emails", "next_step"}
    facts = {name: getattr(request, name) for name in names}
    return RequestStatus(**facts, emails=await store.emails.statuses(request))
