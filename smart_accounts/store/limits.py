"""Reasons to reject a valid request: the domain is taken, or a limit is reached.

Each limit counts only the requests of one requester, so that nobody can use up another's limits.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Self

from sqlalchemy import ColumnElement, Integer, Select, Text, and_, bindparam, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.identity import Identity, identity_of
from smart_accounts.errors import Rejected
from smart_accounts.settings import Settings
from smart_accounts.store import tables
from smart_accounts.store.records import StoredRequest
from smart_accounts.text import utc

MAILBOX_LIMIT = "The requester's requests sent {} emails to one mailbox within a day"
EMAILS_LIMIT = "The requester's requests sent {} emails within a day"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


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


# Statements are made once, because making one takes as long as running it.
_LOCK = select(func.pg_advisory_xact_lock(func.hashtext(bindparam("requester", type_=Text))))
_requests = tables.requests.c
_REQUESTER = select(
    _requests.requester_issuer, _requests.requester_subject, _requests.requester_email
).where(_requests.id == bindparam("request_id"))


async def lock_requester(connection: AsyncConnection, owner: Identity | None, email: str) -> None:
    """Make other transactions wait if they would count the requests of the same requester.

    SQLite has only one writer at a time, so it needs no lock.
    """
    if connection.dialect.name == "postgresql":
        name = f"requests of {owner or email.lower()}"
        await connection.execute(_LOCK, {"requester": name})


async def lock_requester_of(connection: AsyncConnection, request_id: str) -> None:
    """Lock the requester of a request that is stored. Read the request after this."""
    if connection.dialect.name == "postgresql":
        found = await connection.execute(_REQUESTER, {"request_id": request_id})
        if row := found.one_or_none():
            owner = identity_of(row.requester_issuer, row.requester_subject)
            await lock_requester(connection, owner, row.requester_email)


def by_requester(*, has_owner: bool) -> ColumnElement[bool]:
    """Return the condition for requests of a person, or of an address that has no owner.

    ``requester_values`` returns the values of its parameters.
    """
    requests = tables.requests.c
    if has_owner:
        return and_(
            requests.requester_issuer == bindparam("owner_issuer"),
            requests.requester_subject == bindparam("owner_subject"),
        )
    has_address = func.lower(requests.requester_email) == bindparam("owner_email")
    return and_(requests.requester_subject.is_(None), has_address)


def sent_for_requester(*, has_owner: bool) -> ColumnElement[bool]:
    """Return the condition for emails that this requester's requests sent since a moment.

    With a join, SQLite would look at all emails that the requester ever caused. With EXISTS, it
    looks at all requesters' emails since that moment.
    """
    requests, emails = tables.requests.c, tables.emails.c
    is_own = and_(requests.id == emails.request_id, by_requester(has_owner=has_owner))
    return and_(emails.at > bindparam("since"), exists().where(is_own))


def requester_values(owner: Identity | None, email: str) -> dict[str, str]:
    if owner is None:
        return {"owner_email": email.lower()}
    return {"owner_issuer": owner.issuer, "owner_subject": owner.subject}


async def check_emails(
    connection: AsyncConnection,
    request: StoredRequest,
    its_mailbox: str,
    now: datetime,
    limits: Limits,
) -> None:
    """Check the limits of emails just before one to this mailbox is sent.

    A start is rejected earlier. This also stops the emails of requests from earlier days, which
    may all be accepted on one day. The caller has locked the requester.

    Raises:
        Rejected: a limit is reached.
    """
    values = requester_values(request.owner, request.requester_email) | {
        "since": now - DAY,
        "mailbox": its_mailbox,
        "mailbox_limit": limits.emails_per_mailbox_per_day - 1,
        "limit": limits.emails_per_requester_per_day - 1,
    }
    query = _full_limits(has_owner=request.owner is not None)
    mailbox_full_since, full_since = (await connection.execute(query, values)).one()
    for limit, message, since in (
        (limits.emails_per_mailbox_per_day, MAILBOX_LIMIT, mailbox_full_since),
        (limits.emails_per_requester_per_day, EMAILS_LIMIT, full_since),
    ):
        if since:
            full = rejection(message.format(limit), since + DAY)
            raise Rejected(full.reason, full.retry_at)


@cache
def _full_limits(*, has_owner: bool) -> Select[Any]:
    """Return the query of when the oldest email was sent that fills each limit, or null."""
    emails = tables.emails.c
    sent = (
        select(emails.at)
        .where(sent_for_requester(has_owner=has_owner), emails.mailbox.is_not(None))
        .order_by(emails.at.desc())
        .limit(1)
    )
    to_mailbox = sent.where(emails.mailbox == bindparam("mailbox"))
    return select(
        to_mailbox.offset(bindparam("mailbox_limit", type_=Integer)).scalar_subquery(),
        sent.offset(bindparam("limit", type_=Integer)).scalar_subquery(),
    )


def reached(limit: int, ends: list[datetime], message: str) -> Rejection | None:
    """Return the rejection if the limit is reached. ``ends`` are when each item stops counting."""
    if len(ends) < limit:
        return None
    return rejection(message.format(limit), sorted(ends)[len(ends) - limit])


def rejection(message: str, retry_at: datetime) -> Rejection:
    return Rejection(f"{message}, which is the limit. Try again at {utc(retry_at)}.", retry_at)
