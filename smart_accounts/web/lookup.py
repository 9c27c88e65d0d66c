"""Look up a request for a partner, in the store or in Temporal."""

import re

from smart_accounts.contract.actions import Actor, Role
from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import Status
from smart_accounts.contract.names import WORKFLOW_ID
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.records import RunningRequest

_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOT_FOUND = "There is no such request."


async def find_request(
    store: AccountStore,
    client: RequestClient,
    partner: Partner,
    workflow_id: str,
    run_id: str | None = None,
) -> StoredRequest:
    """Return the partner's newest request with this workflow id, or the one with this run id.

    Operators see all requests. For a moment after the start, only Temporal has the request. Then
    its status here is ``requested``, and its owner is the one that its memo names.

    Raises:
        NotFound: there is no such request, or it belongs to another partner.
        Unavailable: the database is down, or Temporal is down and has to be asked.
    """
    if not WORKFLOW_ID.fullmatch(workflow_id) or (run_id and not _RUN_ID.fullmatch(run_id)):
        raise NotFound(_NOT_FOUND)
    owner = requester_filter(partner)

    async def newest() -> StoredRequest | None:
        return await store.listing.newest(workflow_id, owner=owner, run_id=run_id)

    stored = await newest()
    if stored and (run_id or not stored.status.is_final):
        return stored
    # A newer request may follow one that has ended, and at first only Temporal has it.
    try:
        running = await client.find_running(workflow_id, run_id=run_id, owner=owner)
    except NotFound:  # there is none, or it was stored and has ended since the first look
        stored = await newest()
    else:
        stored = await newest()
        if stored is None or stored.id != running.request_id:
            return _record(running)
    if stored is None:
        raise NotFound(_NOT_FOUND)
    return stored


def _record(running: RunningRequest) -> StoredRequest:
    return StoredRequest.new(
        running.request_id,
        running.request,
        running.requested_at,
        status=Status.REQUESTED,
        owner=running.owner,
    )


def check_open(request: StoredRequest) -> None:
    """Check that the request has not ended.

    Raises:
        Rejected: the request has ended. The message says how.
    """
    if request.status.is_final:
        raise Rejected(f"Too late: the request is already {request.status}.")


def requester_filter(partner: Partner) -> Identity | None:
    """Return the person whose requests the partner may see.

    Returns None for an operator, who may see all.
    """
    return None if partner.is_operator else partner.identity


def actor(partner: Partner, request: StoredRequest) -> Actor:
    """Return as whom the partner acts on a request. An operator's own request is a partner's."""
    is_own = request.owner == partner.identity or (
        # It may be the operator's own from before the upgrade.
        request.owner is None and mailbox(request.requester_email) == mailbox(partner.email)
    )
    role = Role.OPERATOR if partner.is_operator and not is_own else Role.REQUESTER
    return Actor(role=role, subject=partner.subject)
