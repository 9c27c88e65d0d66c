"""Reasons to reject a valid request: the domain is taken, or a limit is reached.

Each limit counts only the requests of one requester, so that nobody can use up another's limits.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.steps import Addressee
from smart_accounts.errors import Rejected
from smart_accounts.settings import Settings
from smart_accounts.store import tables
from smart_accounts.store.records import StoredRequest
from smart_accounts.text import utc

MAILBOX_LIMIT = "The requester's requests have {} emails to one mailbox within a day"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OPEN = (Status.IN_REVIEW, Status.PENDING)
"""The statuses of an open request in the store."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest numbers of one requester's requests, and of the emails that they cause."""

    open_per_customer: int
    open_per_requester: int
    starts_per_requester_per_hour: int
    emails_per_mailbox_per_day: int
    emails_per_requester_per_day: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            open_per_customer=settings.max_open_per_customer,
            open_per_requester=settings.max_open_per_requester,
            starts_per_requester_per_hour=settings.max_starts_per_requester_per_hour,
            emails_per_mailbox_per_day=settings.max_emails_per_mailbox_per_day,
            emails_per_requester_per_day=settings.max_emails_per_requester_per_day,
        )


@dataclass(frozen=True)
class Rejection:
    """Why a request is rejected, as a sentence. ``retry_at`` is set if a limit rejects it."""

    reason: str
    retry_at: datetime | None = None


async def reason_to_reject(
    connection: AsyncConnection,
    request: SmartAccountRequest,
    owner: Identity | None,
    at: datetime,
    limits: Limits,
) -> Rejection | None:
    """Return why a request made at this moment is rejected, otherwise None."""
    if rejection := await _domain_is_taken(connection, request.account_domain):
        return rejection
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
            accounts.c.domain == domain, accounts.c.state == "active"
        )
    )
    return Rejection("The domain already has an active Smart Account.") if active_since else None


async def lock_requester(connection: AsyncConnection, owner: Identity | None, email: str) -> None:
    """Make other transactions wait if they would count the requests of the same requester.

    SQLite has only one writer at a time, so it needs no lock.
    """
    if connection.dialect.name == "postgresql":
        name = f"requests of {owner or email.lower()}"
        await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


def by_requester(owner: Identity | None, email: str) -> ColumnElement[bool]:
    """Return the condition for requests of a person, or of an address that has no owner."""
    requests = tables.requests.c
    if owner is None:
        has_address = func.lower(requests.requester_email) == email.lower()
        return and_(requests.requester_subject.is_(None), has_address)
    return and_(
        requests.requester_issuer == owner.issuer, requests.requester_subject == owner.subject
    )


async def check_mailbox(
    connection: AsyncConnection, request: StoredRequest, its_mailbox: str, now: datetime, limit: int
) -> None:
    """Check the limit of a mailbox just before an email to it is sent.

    A start is rejected earlier. This also stops the emails of requests from earlier days, which
    may all be accepted on one day.

    Raises:
        Rejected: the limit is reached.
    """
    await lock_requester(connection, request.owner, request.requester_email)
    emails = tables.emails.c
    ends = await connection.scalars(
        select(emails.at)
        .join(tables.requests, tables.requests.c.id == emails.request_id)
        .where(
            by_requester(request.owner, request.requester_email),
            emails.mailbox == its_mailbox,
            emails.at > now - DAY,
        )
    )
    if rejection := _reached(limit, [at + DAY for at in ends], MAILBOX_LIMIT):
        raise Rejected(rejection.reason, rejection.retry_at)


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
        requests, emails = tables.requests.c, tables.emails.c
        is_own = by_requester(owner, request.requester.email)
        # A request that is still open after its deadline was terminated. An open one for the same
        # domain is this request itself, or the start rejects this one.
        is_open = and_(
            requests.status.in_(OPEN),
            requests.deadline > at,
            requests.account_domain != request.account_domain,
        )
        local, _, domain = mailbox(request.customer_email).partition("@")
        has_customer = func.lower(requests.customer_email).like(
            f"{_escaped(local)}%@{_escaped(domain)}", escape="/"
        )
        full_until: datetime | None = await connection.scalar(
            select(requests.deadline)
            .where(is_own, is_open)
            .order_by(requests.deadline.desc())
            .offset(limits.open_per_requester - 1)
            .limit(1)
        )
        others = await connection.execute(
            select(
                requests.id,
                requests.status,
                requests.requested_at,
                requests.deadline,
                requests.customer_email,
                requests.added_users,
            ).where(
                is_own,
                # A request that waited for the database is checked late: ignore newer ones.
                requests.requested_at <= at,
                requests.status != Status.REJECTED,
                or_(
                    and_(is_open, or_(has_customer, requests.requested_at > at - DAY)),
                    and_(requests.status.not_in(OPEN), requests.requested_at > at - DAY),
                ),
            )
        )
        sent = await connection.execute(
            select(emails.request_id, emails.recipient, emails.at)
            .join(tables.requests, requests.id == emails.request_id)
            .where(
                is_own,
                emails.addressee.in_((Addressee.CUSTOMER, Addressee.ADDED_USER)),
                emails.at > at - DAY,
            )
        )
        return cls(at, request, full_until, others.all(), sent.all())

    def open_limit(self, limits: Limits) -> Rejection | None:
        if self.full_until is None:
            return None
        message = f"The requester already has {limits.open_per_requester} open requests"
        return _rejection(message, self.full_until)

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
        return _reached(limits.open_per_customer, ends, message)

    def starts_limit(self, limits: Limits) -> Rejection | None:
        ends = [
            each.requested_at + HOUR for each in self.others if each.requested_at > self.at - HOUR
        ]
        message = "The requester made {} requests within an hour"
        return _reached(limits.starts_per_requester_per_hour, ends, message)

    def mailbox_limit(self, limits: Limits, *recipients: str) -> Rejection | None:
        ends: dict[str, list[datetime]] = {}
        for recipient, end in self._emails():
            ends.setdefault(recipient, []).append(end)
        for each in map(mailbox, recipients):
            rejection = _reached(
                limits.emails_per_mailbox_per_day, ends.get(each, []), MAILBOX_LIMIT
            )
            if rejection:
                return rejection
        return None

    def emails_limit(self, limits: Limits) -> Rejection | None:
        ends = [end for _, end in self._emails()]
        message = "The requester's requests have {} emails within a day"
        return _reached(limits.emails_per_requester_per_day, ends, message)

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


def _escaped(text: str) -> str:
    """Return the text as a pattern of LIKE that matches only the text itself."""
    return re.sub(r"[%_/]", r"/\g<0>", text)


def _reached(limit: int, ends: list[datetime], message: str) -> Rejection | None:
    """Return the rejection if as many as ``limit`` count. Each counts until its end."""
    if len(ends) < limit:
        return None
    return _rejection(message.format(limit), sorted(ends)[len(ends) - limit])


def _rejection(message: str, retry_at: datetime) -> Rejection:
    return Rejection(f"{message}, which is the limit. Try again at {utc(retry_at)}.", retry_at)
