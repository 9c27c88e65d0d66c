"""Finding a request for whoever asks: in the store or, before any worker saw it, in Temporal."""

import re

from smart_accounts.contract.messages import Status
from smart_accounts.errors import NotFound
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient, RunningRequest
from smart_accounts.web.auth.session import Partner

_WORKFLOW_ID = re.compile(r"smart-account-[a-z0-9.-]{1,253}")
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NONE = "There is no such request."


def not_stored_yet(begun: RunningRequest) -> StoredRequest:
    """What the store will have once a worker has taken the request up."""
    request = begun.request
    return StoredRequest(
        id=begun.request_id,
        workflow_id=begun.workflow_id,
        status=Status.REQUESTED,
        account_name=request.account_name,
        account_domain=request.account_domain,
        customer_email=request.customer_email,
        requester_email=request.requester.email,
        requester_name=request.requester.name,
        requester_company=request.requester.company,
        note_to_customer=request.note_to_customer,
        note_to_added_users=request.note_to_added_users,
        added_users=request.added_users,
        needs_attention=(),
        requested_at=begun.requested_at,
        deadline=begun.requested_at + request.acceptance_window,
        link_ordinal=1,
        signalled=None,
        decided_at=None,
        decided_by=None,
        reason=None,
    )


async def find_request(
    store: AccountStore,
    client: RequestClient,
    partner: Partner,
    workflow_id: str,
    run_id: str | None = None,
) -> StoredRequest | RunningRequest:
    """The partner's newest request of that workflow id, or the one of that run; an operator's any.

    For a moment after it was sent only Temporal has a request, as ``RunningRequest``.

    Raises:
        NotFound: there is none, or it is another partner's, which looks the same.
        Unavailable: the database or, where it has to be asked, Temporal does not answer.
    """
    if not _WORKFLOW_ID.fullmatch(workflow_id) or (run_id and not _RUN_ID.fullmatch(run_id)):
        raise NotFound(_NONE)
    whose = visible_to(partner)

    async def newest() -> StoredRequest | None:
        return await store.requests.newest(workflow_id, requester_email=whose, run_id=run_id)

    stored = await newest()
    if stored and (run_id or not stored.status.is_final):
        return stored
    # After one that has ended there may be a newer one, of which only Temporal knows as yet.
    try:
        begun = await client.begun(workflow_id, run_id=run_id)
    except NotFound:  # none, or it was stored and has ended since we looked
        stored = await newest()
    else:
        if _is_of(begun, whose) and (stored is None or stored.id != begun.request_id):
            return begun
    if stored is None:
        raise NotFound(_NONE)
    return stored


def visible_to(partner: Partner) -> str | None:
    """Whose requests a partner sees; ``None`` means everybody's."""
    return None if partner.is_operator else partner.email


def _is_of(begun: RunningRequest, email: str | None) -> bool:
    return email is None or begun.request.requester.email.lower() == email.lower()
