"""Reasons to reject a valid request: the domain is taken, or a limit is reached.

Each limit counts only the requests of one requester, so that nobody can use up another's limits.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.steps import Addressee
from smart_accounts.settings import Settings
from smart_accounts.store import tables
from smart_accounts.text import utc

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
    connection: AsyncConnection, request: SmartAccountRequest, at: datetime, limits: Limits
) -> Rejection | None:
    """Return why a request made at this moment is rejected, otherwise None."""
    if rejection := await _domain_is_taken(connection, request.account_domain):
        return rejection
    usage = await Usage.load(connection, request, at)
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


async def lock_requester(connection: AsyncConnection, request: SmartAccountRequest) -> None:
    """Make other transactions wait if they would count the requests of the same requester.

    SQLite has only one writer at a time, so it needs no lock.
    """
    if connection.dialect.name == "postgresql":
        name = f"requests of {request.requester.email.lower()}"
        await connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


def by_requester(request: SmartAccountRequest) -> ColumnElement[bool]:
    return func.lower(tables.requests.c.requester_email) == request.requester.email.lower()


@dataclass(frozen=True)
class Usage:
    """What one requester has used up when a request is made or changed.

    ``others`` are the requester's other requests that are open or were made within a day.
    ``emails`` are the emails to approvers and added users that were sent within a day.
    """

    at: datetime
    request: SmartAccountRequest
    others: Sequence[Any]
    emails: Sequence[Any]

    @classmethod
    async def load(
        cls, connection: AsyncConnection, request: SmartAccountRequest, at: datetime
    ) -> Self:
        requests, emails = tables.requests.c, tables.emails.c
        others = await connection.execute(
            select(
                requests.id,
                requests.status,
                requests.requested_at,
                requests.deadline,
                requests.customer_email,
                requests.added_users,
            ).where(
                by_requester(request),
                or_(requests.status.in_(OPEN), requests.requested_at > at - DAY),
                # A request that waited for the database is checked late: ignore newer ones.
                requests.requested_at <= at,
                requests.status != Status.REJECTED,
                # An open one for the same domain is this request, or the start rejects this one.
                or_(
                    requests.account_domain != request.account_domain,
                    requests.status.not_in(OPEN),
                ),
            )
        )
        sent = await connection.execute(
            select(emails.request_id, emails.recipient, emails.at)
            .join(tables.requests, requests.id == emails.request_id)
            .where(
                by_requester(request),
                emails.addressee.in_((Addressee.CUSTOMER, Addressee.ADDED_USER)),
                emails.at > at - DAY,
            )
        )
        return cls(at, request, others.all(), sent.all())

    def open_limit(self, limits: Limits) -> Rejection | None:
        deadlines = [each.deadline for each in self._open()]
        return _reached(
            limits.open_per_requester, deadlines, "The requester already has {count} open requests"
        )

    def customer_limit(self, limits: Limits) -> Rejection | None:
        its_mailbox = mailbox(self.request.customer_email)
        deadlines = [
            each.deadline for each in self._open() if mailbox(each.customer_email) == its_mailbox
        ]
        message = "The requester already has {count} open requests for this customer"
        return _reached(limits.open_per_customer, deadlines, message)

    def starts_limit(self, limits: Limits) -> Rejection | None:
        ends = [
            each.requested_at + HOUR for each in self.others if each.requested_at > self.at - HOUR
        ]
        message = "The requester made {count} requests within an hour"
        return _reached(limits.starts_per_requester_per_hour, ends, message)

    def mailbox_limit(self, limits: Limits, *recipients: str) -> Rejection | None:
        for each in dict.fromkeys(map(mailbox, recipients)):
            ends = [end for recipient, end in self._emails() if recipient == each]
            message = "The requester's requests have {count} emails to one mailbox within a day"
            if rejection := _reached(limits.emails_per_mailbox_per_day, ends, message):
                return rejection
        return None

    def emails_limit(self, limits: Limits) -> Rejection | None:
        ends = [end for _, end in self._emails()]
        message = "The requester's requests have {count} emails within a day"
        return _reached(limits.emails_per_requester_per_day, ends, message)

    def _open(self) -> list[Any]:
        # A request that is still open after its deadline was terminated.
        return [each for each in self.others if each.status in OPEN and each.deadline > self.at]

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


def _reached(limit: int, ends: list[datetime], message: str) -> Rejection | None:
    """Return the rejection if as many as ``limit`` count. Each counts until its end."""
    if len(ends) < limit:
        return None
    retry_at = sorted(ends)[len(ends) - limit]
    reason = f"{message.format(count=len(ends))}, which is the limit. Try again at {utc(retry_at)}."
    return Rejection(reason, retry_at)
