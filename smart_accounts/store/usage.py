"""What a requester has used up of the limits, and whether a request is rejected for it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.steps import Addressee
from smart_accounts.store import tables
from smart_accounts.store.limits import (
    DAY,
    EMAILS_LIMIT,
    HOUR,
    MAILBOX_LIMIT,
    Limits,
    Rejection,
    by_requester,
    reached,
    rejection,
)
from smart_accounts.store.records import OPEN, AccountState


async def reason_to_reject(
    connection: AsyncConnection,
    request: SmartAccountRequest,
    owner: Identity | None,
    at: datetime,
    limits: Limits,
) -> Rejection | None:
    """Return why a request made at this moment is rejected, otherwise None."""
    if taken := await _domain_is_taken(connection, request.account_domain):
        return taken
    usage = await Usage.load(connection, request, owner, at, limits)
    return (
        usage.open_limit(limits)
        or usage.customer_limit(limits)
        or usage.starts_limit(limits)
        or usage.mailbox_limit(limits, request.customer_email, *request.added_users)
        or usage.emails_limit(limits)
    )


async def _domain_is_taken(connection: AsyncConnection, domain: str) -> Rejection | None:
    accounts = tables.accounts
    active_since: datetime | None = await connection.scalar(
        select(accounts.c.activated_at).where(
            accounts.c.domain == domain, accounts.c.state == AccountState.ACTIVE
        )
    )
    return Rejection("The domain already has an active Smart Account.") if active_since else None


@dataclass(frozen=True)
class Usage:
    """What one requester has used up when a request is made or changed.

    ``others`` are the requester's other requests that were made within a day, or that are open for
    the same customer. If there are as many open requests as allowed, ``full_until`` is when the
    first of them lapses. ``emails`` are those to approvers and added users within a day.
    """

    at: datetime
    request: SmartAccountRequest
    full_until: datetime | None
    others: Sequence[Any]
    emails: Sequence[Any]

    @classmethod
    async def load(
        cls,
        connection: AsyncConnection,
        request: SmartAccountRequest,
        owner: Identity | None,
        at: datetime,
        limits: Limits,
    ) -> Self:
        is_own, is_open = by_requester(owner, request.requester.email), _is_open(request, at)
        return cls(
            at,
            request,
            await _full_until(connection, and_(is_own, is_open), limits.open_per_requester),
            await _others(connection, is_own, is_open, request, at),
            await _emails_within_a_day(connection, is_own, at),
        )

    def open_limit(self, limits: Limits) -> Rejection | None:
        if self.full_until is None:
            return None
        message = f"The requester already has {limits.open_per_requester} open requests"
        return rejection(message, self.full_until)

    def customer_limit(self, limits: Limits) -> Rejection | None:
        its_mailbox = mailbox(self.request.customer_email)
        ends = [
            each.deadline
            for each in self.others
            if each.status in OPEN
            and each.deadline > self.at
            and mailbox(each.customer_email) == its_mailbox
        ]
        message = "The requester already has {} open requests for this customer"
        return reached(limits.open_per_customer, ends, message)

    def starts_limit(self, limits: Limits) -> Rejection | None:
        # A request that waited for the database is checked late, so newer ones do not count here.
        ends = [
            each.requested_at + HOUR
            for each in self.others
            if self.at - HOUR < each.requested_at <= self.at
        ]
        message = "The requester made {} requests within an hour"
        return reached(limits.starts_per_requester_per_hour, ends, message)

    def mailbox_limit(self, limits: Limits, *recipients: str) -> Rejection | None:
        ends: dict[str, list[datetime]] = {}
        for recipient, end in self._emails():
            ends.setdefault(recipient, []).append(end)
        for each in map(mailbox, recipients):
            full = reached(limits.emails_per_mailbox_per_day, ends.get(each, []), MAILBOX_LIMIT)
            if full:
                return full
        return None

    def emails_limit(self, limits: Limits) -> Rejection | None:
        ends = [end for _, end in self._emails()]
        return reached(limits.emails_per_requester_per_day, ends, EMAILS_LIMIT)

    def _emails(self) -> Iterable[tuple[str, datetime]]:
        """Yield the mailbox of each email within a day, and when it no longer counts.

        Emails that a request made within a day has not sent yet count too: one to each added user,
        the activation email and one more to the customer.
        """
        unsent: dict[tuple[str, str], list[datetime]] = {}
        for each in self.others:
            end = each.requested_at + DAY
            if end > self.at:
                users = each.added_users if each.status in (*OPEN, Status.ACTIVE) else ()
                unsent |= {(each.id, mailbox(user)): [end] for user in users}
                unsent[each.id, mailbox(each.customer_email)] = [end, end]
        for email in self.emails:
            recipient = mailbox(email.recipient)
            yield recipient, email.at + DAY
            if expected := unsent.get((email.request_id, recipient)):
                expected.pop()
        for (_, recipient), ends in unsent.items():
            for end in ends:
                yield recipient, end


def _is_open(request: SmartAccountRequest, at: datetime) -> ColumnElement[bool]:
    """Return the condition for other open requests.

    A request that is still open after its deadline was terminated. An open one for the same domain
    is this request itself, or the start rejects this one.
    """
    requests = tables.requests.c
    return and_(
        requests.status.in_(OPEN),
        requests.deadline > at,
        requests.account_domain != request.account_domain,
    )


async def _full_until(
    connection: AsyncConnection, condition: ColumnElement[bool], limit: int
) -> datetime | None:
    """Return when fewer than ``limit`` requests are open, or None if fewer are open now."""
    deadline = tables.requests.c.deadline
    last = select(deadline).where(condition).order_by(deadline.desc()).offset(limit - 1).limit(1)
    found: datetime | None = await connection.scalar(last)
    return found


async def _others(
    connection: AsyncConnection,
    is_own: ColumnElement[bool],
    is_open: ColumnElement[bool],
    request: SmartAccountRequest,
    at: datetime,
) -> Sequence[Any]:
    requests = tables.requests.c
    local, _, domain = mailbox(request.customer_email).partition("@")
    has_customer = func.lower(requests.customer_email).like(
        f"{_escaped(local)}%@{_escaped(domain)}", escape="/"
    )
    is_recent = requests.requested_at > at - DAY
    found = await connection.execute(
        select(
            requests.id,
            requests.status,
            requests.requested_at,
            requests.deadline,
            requests.customer_email,
            requests.added_users,
        ).where(
            is_own,
            requests.status != Status.REJECTED,
            or_(
                and_(is_open, or_(has_customer, is_recent)),
                and_(requests.status.not_in(OPEN), is_recent),
            ),
        )
    )
    return found.all()


async def _emails_within_a_day(
    connection: AsyncConnection, is_own: ColumnElement[bool], at: datetime
) -> Sequence[Any]:
    emails = tables.emails.c
    found = await connection.execute(
        select(emails.request_id, emails.recipient, emails.at)
        .join(tables.requests, tables.requests.c.id == emails.request_id)
        .where(
            is_own,
            emails.addressee.in_((Addressee.CUSTOMER, Addressee.ADDED_USER)),
            emails.at > at - DAY,
        )
    )
    return found.all()


def _escaped(text: str) -> str:
    """Return the text as a pattern of LIKE that matches only the text itself."""
    return re.sub(r"[%_/]", r"/\g<0>", text)
