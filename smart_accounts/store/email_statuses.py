"""The emails of a request as the store has them, and those of them that are shown."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus
from smart_accounts.contract.steps import Addressee, Email
from smart_accounts.store import tables
from smart_accounts.store.records import StoredRequest


async def find_emails(
    connection: AsyncConnection, request_id: str
) -> list[tuple[Email, EmailStatus]]:
    """Return the emails that were tried, ordered by their last outcome."""
    emails = tables.emails
    rows = await connection.execute(
        select(emails)
        .where(emails.c.request_id == request_id)
        .order_by(emails.c.at, emails.c.kind, emails.c.recipient)
    )
    return [(stored_email(row), email_status(row)) for row in rows]


async def find_statuses(
    connection: AsyncConnection, request: StoredRequest
) -> tuple[EmailStatus, ...]:
    """Return the status of each email, except those on their way and those not to be sent."""
    emails = await find_emails(connection, request.id)
    return tuple(
        status
        for email, status in emails
        if status.state != EmailState.QUEUED
        or not (_is_being_sent(status) or request.is_outdated(email) or _is_replaced(email, emails))
    )


def _is_being_sent(status: EmailStatus) -> bool:
    """Return True if no mail server has replied yet."""
    return status.state == EmailState.QUEUED and status.answer is None


def _is_replaced(email: Email, emails: Sequence[tuple[Email, object]]) -> bool:
    """Return True if a newer reminder replaced this one."""
    return email.kind == EmailKind.REMINDER and any(
        other.kind == EmailKind.REMINDER and other.number > email.number for other, _ in emails
    )


def stored_email(row: Row[Any]) -> Email:
    return Email(kind=EmailKind(row.kind), to=Addressee(row.addressee), number=row.number)


def email_status(row: Row[Any]) -> EmailStatus:
    return EmailStatus(
        kind=EmailKind(row.kind),
        recipient=row.recipient,
        state=EmailState(row.state),
        at=row.at,
        answer=row.answer,
    )
