"""The ledger of emails: what became of each, so that none that is settled is sent again."""

from typing import Any

from sqlalchemy import Row, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from smart_accounts.contract.messages import Addressee, Email, EmailKind, EmailState, EmailStatus
from smart_accounts.contract.steps import EmailOutcome
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.records import ReturnedEmail

_OUT = (EmailState.SENT, EmailState.QUEUED)  # of a queued one, the server's yes may be lost


class EmailLedger:
    """Each method is one transaction and raises ``Unavailable`` if the database does not answer."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def outcome(self, request_id: str, email: Email) -> EmailOutcome | None:
        """What became of an email; a ``queued`` one has been refused for now since ``at``."""
        async with transaction(self._engine, writes=False) as connection:
            row = (
                await connection.execute(select(tables.emails).where(_is(request_id, email)))
            ).one_or_none()
            if row is None:
                return None
            return EmailOutcome(state=EmailState(row.state), at=row.at, answer=row.answer)

    async def record(
        self,
        request_id: str,
        email: Email,
        recipient: str,
        message_id: str,
        return_token: str,
        outcome: EmailOutcome,
    ) -> None:
        """Write down what became of an email; the first outcome that settles it stays."""
        emails = tables.emails
        values = outcome.model_dump() | {
            "recipient": recipient,
            "message_id": message_id,
            "return_token": return_token,
        }
        async with transaction(self._engine, writes=True) as connection:
            state = await connection.scalar(
                select(emails.c.state).where(_is(request_id, email)).with_for_update()
            )
            if state is None:
                key = {"kind": email.kind, "addressee": email.to, "number": email.number}
                await connection.execute(
                    insert(emails).values(request_id=request_id, **key, **values)
                )
            elif state == EmailState.QUEUED:
                await connection.execute(
                    update(emails).where(_is(request_id, email)).values(**values)
                )

    async def forget_refusals(self, request_id: str, email: Email) -> None:
        """Count anew how long an email is refused for now."""
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                delete(tables.emails).where(
                    _is(request_id, email), tables.emails.c.state == EmailState.QUEUED
                )
            )

    async def of_request(self, request_id: str) -> list[tuple[Email, EmailStatus]]:
        """The emails that were tried, in the order of what last happened to them."""
        async with transaction(self._engine, writes=False) as connection:
            rows = await connection.execute(
                select(tables.emails)
                .where(tables.emails.c.request_id == request_id)
                .order_by(tables.emails.c.at, tables.emails.c.kind, tables.emails.c.recipient)
            )
            return [(_email(row), email_status(row)) for row in rows]

    async def find_returned(self, return_token: str) -> ReturnedEmail | None:
        """The email that went out with this return path; ``None`` if none did or it is known."""
        emails, requests = tables.emails.c, tables.requests.c
        async with transaction(self._engine, writes=False) as connection:
            row = (
                await connection.execute(
                    select(tables.emails, requests.workflow_id)
                    .join(tables.requests, requests.id == emails.request_id)
                    .where(emails.return_token == return_token, emails.state.in_(_OUT))
                )
            ).one_or_none()
            if row is None:
                return None
            return ReturnedEmail(
                workflow_id=row.workflow_id, request_id=row.request_id, email=_email(row)
            )

    async def mark_bounced(self, returned: ReturnedEmail, outcome: EmailOutcome) -> None:
        """The email was taken and came back; the first report stays."""
        async with transaction(self._engine, writes=True) as connection:
            await connection.execute(
                update(tables.emails)
                .where(
                    _is(returned.request_id, returned.email),
                    tables.emails.c.state.in_(_OUT),
                )
                .values(**outcome.model_dump())
            )


def _is(request_id: str, email: Email) -> Any:
    columns = tables.emails.c
    return and_(
        columns.request_id == request_id,
        columns.kind == email.kind,
        columns.addressee == email.to,
        columns.number == email.number,
    )


def _email(row: Row[Any]) -> Email:
    return Email(kind=EmailKind(row.kind), to=Addressee(row.addressee), number=row.number)


def email_status(row: Row[Any]) -> EmailStatus:
    return EmailStatus(
        kind=EmailKind(row.kind),
        recipient=row.recipient,
        state=EmailState(row.state),
        at=row.at,
        answer=row.answer,
    )
