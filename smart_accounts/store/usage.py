"""What a requester has used up of the limits, and whether a request is rejected for it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Self

from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, func, null, or_, select
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
    requester_values,
    sent_for_requester,
)
from smart_accounts.store.partners import ENTERED_COMPANY
from smart_accounts.store.records import OPEN, AccountState


@dataclass(frozen=True)
class Usage:
    """What one requester has used up when a request is made or changed.

    ``was_reported`` is True if a customer reported an earlier request of the same requester,
    ``company_is_stated`` unless the identity provider named the company.
    ``others`` are the requester's other requests that were made within a day, or that are open for
    the same customer. If there are as many open requests as allowed, ``full_until`` is when the
    first of them lapses. ``emails`` are those to approvers and added users within a day.
    """

    at: datetime
    request: SmartAccountRequest
    domain_is_taken: bool
    was_reported: bool
    company_is_stated: bool
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
        has_owner = owner is not None
        local, _, domain = mailbox(request.customer_email).partition("@")
        values = requester_values(owner, request.requester.email) | {
            "domain": request.account_domain,
            "at": at,
            "since": at - DAY,
            "limit": limits.open_per_requester - 1,
            "customer": f"{_escaped(local)}%@{_escaped(domain)}",
        }
        facts = (await connection.execute(_facts(has_owner=has_owner), values)).one()
        others = await connection.execute(_others(has_owner=has_owner), values)
        emails = await connection.execute(_emails(has_owner=has_owner), values)
        return cls(
            at,
            request,
            domain_is_taken=facts.active_since is not None,
            was_reported=facts.reported is not None,
            company_is_stated=(owner is None or facts.entered_company == request.requester.company),
            full_until=facts.full_until,
            others=others.all(),
            emails=emails.all(),
        )

    def reason_to_reject(self, limits: Limits) -> Rejection | None:
        """Return why the request is rejected, otherwise None."""
        if self.domain_is_taken:
            return Rejection("The domain already has an active Smart Account.")
        return (
            self.open_limit(limits)
            or self.customer_limit(limits)
            or self.starts_limit(limits)
            or self.mailbox_limit(limits, self.request.customer_email, *self.request.added_users)
            or self.emails_limit(limits)
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


# Statements are made once, because making one takes as long as running it.


def _is_open() -> ColumnElement[bool]:
    """Return the condition for other open requests.

    A request that is still open after its deadline was terminated. An open one for the same domain
    is this request itself, or the start rejects this one.
    """
    requests = tables.requests.c
    return and_(
        requests.status.in_(OPEN),
        requests.deadline > bindparam("at"),
        requests.account_domain != bindparam("domain"),
    )


@cache
def _facts(*, has_owner: bool) -> Select[Any]:
    """Return the query of what needs one value each."""
    requests, accounts = tables.requests.c, tables.accounts.c
    is_own = by_requester(has_owner=has_owner)
    active_since = select(accounts.activated_at).where(
        accounts.domain == bindparam("domain"),
        accounts.state == AccountState.ACTIVE,
        accounts.state != AccountState.CLOSED,  # SQLite uses its index only for this
    )
    reported = select(requests.id).where(is_own, requests.is_reported).limit(1)
    full_until = (
        select(requests.deadline)
        .where(is_own, _is_open())
        .order_by(requests.deadline.desc())
        .offset(bindparam("limit", type_=Integer))
        .limit(1)
    )
    return select(
        active_since.scalar_subquery().label("active_since"),
        reported.scalar_subquery().label("reported"),
        full_until.scalar_subquery().label("full_until"),
        (ENTERED_COMPANY.scalar_subquery() if has_owner else null()).label("entered_company"),
    )


@cache
def _others(*, has_owner: bool) -> Select[Any]:
    requests = tables.requests.c
    has_customer = func.lower(requests.customer_email).like(bindparam("customer"), escape="/")
    is_recent = requests.requested_at > bindparam("since")
    return select(
        requests.id,
        requests.status,
        requests.requested_at,
        requests.deadline,
        requests.customer_email,
        requests.added_users,
    ).where(
        by_requester(has_owner=has_owner),
        requests.status != Status.REJECTED,
        or_(
            and_(_is_open(), or_(has_customer, is_recent)),
            and_(requests.status.not_in(OPEN), is_recent),
        ),
    )


@cache
def _emails(*, has_owner: bool) -> Select[Any]:
    emails = tables.emails.c
    return select(emails.request_id, emails.recipient, emails.at).where(
        sent_for_requester(has_owner=has_owner),
        emails.addressee.in_((Addressee.CUSTOMER, Addressee.ADDED_USER)),
    )


def _escaped(text: str) -> str:
    """Return the text as a pattern of LIKE that matches only the text itself."""
    return re.sub(r"[%_/]", r"/\g<0>", text)
