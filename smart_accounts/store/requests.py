"""The life of a request in the store.

Every write names the request's id and changes nothing when it is repeated, because an activity may
run again after its transaction was committed.
"""

from dataclasses import asdict
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, func, insert, or_, update
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.checks import REPORTED
from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.identity import Identity, identity_of
from smart_accounts.contract.messages import SmartAccountRequest, Status
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
from smart_accounts.contract.webhooks import EventType
from smart_accounts.store import tables
from smart_accounts.store.audit import find_acceptance
from smart_accounts.store.database import transaction
from smart_accounts.store.decisions import (
    activate_account,
    decide,
    earlier_decision,
    find_request,
    free_domain,
    lock_request,
    withdraw_terminated,
)
from smart_accounts.store.limits import Limits, Rejection, lock_requester, lock_requester_of
from smart_accounts.store.outbox import add_event
from smart_accounts.store.records import (
    OPEN,
    AccountState,
    StoredRequest,
    stored_reminders,
)
from smart_accounts.store.restarts import restarted, was_asked
from smart_accounts.store.search import search_text_of
from smart_accounts.store.usage import Usage

WITHDRAW_INSTEAD = "Withdraw the request and make a new one, which an operator reviews."


_INSERT_REQUEST, _INSERT_ACCOUNT = insert(tables.requests), insert(tables.accounts)


class Activation(NamedTuple):
    """``accepted_at`` is None if the request was decided before."""

    decision: Decision
    accepted_at: datetime | None = None


class Requests:
    """Each method is one transaction. It raises ``Unavailable`` if the database is down."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def find(self, request_id: str) -> StoredRequest | None:
        async with transaction(self._engine, writes=False) as connection:
            return await find_request(connection, request_id)

    async def reason_to_reject(
        self, request: SmartAccountRequest, owner: Identity | None, at: datetime, limits: Limits
    ) -> Rejection | None:
        """Return why a request made at this moment would be rejected, otherwise None."""
        async with transaction(self._engine, writes=False) as connection:
            usage = await Usage.load(connection, request, owner, at, limits)
        return usage.reason_to_reject(limits)

    async def open(self, new: OpenRequest, odd: tuple[str, ...], limits: Limits) -> Checked:
        """Store the request with its provisional account.

        ``odd`` are the reasons for a review that the request itself gives. A rejected request is
        stored too, without an account.
        """
        async with transaction(self._engine, writes=True) as connection:
            if known := await find_request(connection, new.request_id):
                return _checked(known, continues=await was_asked(connection, known.id))
            owner = identity_of(new.requester_issuer, new.requester_subject)
            request, requester = new.request, new.request.requester
            await lock_requester(connection, owner, requester.email)
            await withdraw_terminated(connection, request.account_domain, new.requested_at)
            usage = await Usage.load(connection, request, owner, new.requested_at, limits)
            rejection = usage.reason_to_reject(limits)
            if usage.was_reported:
                odd += (REPORTED,)
            record = StoredRequest.new(
                new.request_id,
                request,
                new.requested_at,
                status=_first_status(rejection, odd),
                owner=owner,
                company_is_stated=usage.company_is_stated,
                needs_attention=odd,
                reason=rejection.reason if rejection else None,
                retry_at=rejection.retry_at if rejection else None,
            )
            row = asdict(record) | {
                "idempotency_key": new.idempotency_key,
                "reminders": stored_reminders(request),
                "search_text": search_text_of(request),
            }
            await connection.execute(_INSERT_REQUEST, row)
            if not rejection:
                account = {
                    "id": record.id,
                    "domain": record.account_domain,
                    "name": record.account_name,
                    "state": AccountState.PROVISIONAL,
                }
                await connection.execute(_INSERT_ACCOUNT, account)
            event_type = EventType.of(record.status)
            await add_event(connection, record.id, event_type, new.requested_at)
            return _checked(record)

    async def approve(self, approval: Approve) -> None:
        """Record that an operator approved the request, so that the customer can be asked."""
        requests = tables.requests
        async with transaction(self._engine, writes=True) as connection:
            changed = await connection.execute(
                update(requests)
                .where(requests.c.id == approval.request_id, requests.c.status == Status.IN_REVIEW)
                .values(status=Status.PENDING, approved_at=approval.at)
            )
            if changed.rowcount:
                await add_event(connection, approval.request_id, EventType.PENDING, approval.at)

    async def issue_link(self, link: IssueLink, odd: tuple[str, ...], limits: Limits) -> Checked:
        """Put a link and its approver in force.

        ``odd`` are reasons for a review, which reject a new approver. A request that has ended is
        not changed, because its links can no longer be used.
        """
        requests, request = tables.requests, link.request
        own = mailbox(request.requester.email)
        async with transaction(self._engine, writes=True) as connection:
            # Lock before reading, because the request may be decided while this waits.
            await lock_requester_of(connection, link.request_id)
            known = await lock_request(connection, link.request_id)
            if known is None or known.status.is_final:
                return Checked()
            is_new_approver = known.customer_email != request.customer_email
            is_behind = known.link_ordinal > link.ordinal  # the run was reset to before newer links
            if is_behind or (known.link_ordinal == link.ordinal and not is_new_approver):
                return _checked(known, continues=is_behind)
            if is_new_approver and mailbox(request.customer_email) == own:
                return Checked(refused="The approver's address must differ from the requester's.")
            usage = await Usage.load(connection, request, known.owner, link.at, limits)
            if usage.was_reported:
                odd += (REPORTED,)
            if is_new_approver and odd:
                return Checked(refused=f"{odd[0]} {WITHDRAW_INSTEAD}")
            rejection = (usage.customer_limit(limits) if is_new_approver else None) or (
                usage.mailbox_limit(limits, request.customer_email) or usage.emails_limit(limits)
            )
            if rejection:
                return Checked(refused=rejection.reason, retry_at=rejection.retry_at)
            needs_attention = () if is_new_approver else known.needs_attention
            await connection.execute(
                update(requests)
                .where(requests.c.id == link.request_id)
                .values(
                    customer_email=request.customer_email,
                    search_text=search_text_of(request),
                    added_users=request.added_users,
                    needs_attention=needs_attention,
                    link_ordinal=link.ordinal,
                )
            )
            if is_new_approver:
                await add_event(connection, link.request_id, EventType.APPROVER_REPLACED, link.at)
            return Checked(needs_attention=needs_attention)

    async def note_contested(self, domain: str, requester: Identity, at: datetime) -> None:
        """Note that another requester asked for the domain of an open request."""
        requests = tables.requests
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(requests)
                .where(
                    requests.c.account_domain == domain,
                    requests.c.status.in_(OPEN),
                    or_(
                        requests.c.requester_subject.is_(None),
                        requests.c.requester_subject != requester.subject,
                        requests.c.requester_issuer != requester.issuer,
                    ),
                )
                .values(contested_at=at)
            )

    async def note_signalled(self, request_id: str, link: int, answer: str) -> None:
        """Note that Temporal has an answer through a link. The first answer of each link stays."""
        requests = tables.requests
        newer = func.coalesce(requests.c.signalled_link, 1) < link
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(requests)
                .where(requests.c.id == request_id, or_(requests.c.signalled.is_(None), newer))
                .values(signalled=answer, signalled_link=link)
            )

    async def activate(self, record: RecordDecision) -> Activation:
        """Activate the account and give the customer and the added users access.

        Returns the decision that counts, which is an earlier one if the store has one.
        """
        async with transaction(self._engine, writes=True) as connection:
            request = await decide(connection, record)
            if request is None:
                return Activation(await earlier_decision(connection, record.request_id))
            decision = record.decision
            await activate_account(connection, request, decision.at)
            # The page noted the acceptance, which may be long before a worker sees it.
            accepted_at = await find_acceptance(connection, request.id) or decision.at
            return Activation(decision, accepted_at)

    async def close(self, record: RecordDecision) -> Decision:
        """End the request without an account, which frees its domain.

        Returns the decision that counts, which is an earlier one if the store has one.
        """
        async with transaction(self._engine, writes=True) as connection:
            if await decide(connection, record) is None:
                return await earlier_decision(connection, record.request_id)
            await free_domain(connection, record.request_id)
            return record.decision

    async def close_account(self, close: CloseAccount) -> ClosedAccount:
        """Close an active account: access ends, and its domain is free.

        Returns the closing that counts, which is an earlier one if the store has one.
        """
        requests, closing = tables.requests, close.closing
        async with transaction(self._engine, writes=True) as connection:
            changed = await connection.execute(
                update(requests)
                .where(
                    requests.c.id == close.request_id,
                    requests.c.account_domain == closing.account_domain,
                    requests.c.status == Status.ACTIVE,
                    requests.c.closed_at.is_(None),
                )
                .values(
                    closed_at=close.at,
                    closed_by=closing.by.subject,
                    close_reason=closing.reason,
                )
            )
            if changed.rowcount:
                await free_domain(connection, close.request_id)
                users = tables.account_users
                await connection.execute(
                    delete(users).where(users.c.account_id == close.request_id)
                )
                await add_event(connection, close.request_id, EventType.ACCOUNT_CLOSED, close.at)
            known = await find_request(connection, close.request_id)
            if known is None or known.closed_at is None:
                return ClosedAccount()
            if known.account_domain != closing.account_domain:
                return ClosedAccount()
            return ClosedAccount(
                at=known.closed_at, reason=known.close_reason, added_users=len(known.added_users)
            )


def _first_status(rejection: Rejection | None, odd: tuple[str, ...]) -> Status:
    if rejection:
        return Status.REJECTED
    return Status.IN_REVIEW if odd else Status.PENDING


def _checked(request: StoredRequest, *, continues: bool = False) -> Checked:
    """Return the result of the checks of a request that is stored."""
    return Checked(
        refused=request.reason if request.status == Status.REJECTED else None,
        retry_at=request.retry_at,
        needs_attention=request.needs_attention,
        in_review=request.status == Status.IN_REVIEW,
        restarted=restarted(request) if continues and request.status in OPEN else None,
    )
