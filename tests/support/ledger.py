"""The ledger of emails, as a worker would leave it."""

from sqlalchemy import delete, insert

from smart_accounts.contract.steps import Email, EmailOutcome
from smart_accounts.store import tables
from smart_accounts.store.database import transaction
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import token_hash


async def outcome_of(store: AccountStore, request_id: str, email: Email) -> EmailOutcome | None:
    """Return the outcome of an email, or None if it is not in the ledger."""
    for known, status in await store.emails.of_request(request_id):
        if known == email:
            return EmailOutcome(state=status.state, at=status.at, answer=status.answer)
    return None


async def add_email(
    store: AccountStore,
    request_id: str,
    email: Email,
    outcome: EmailOutcome,
    *,
    recipient: str = "ada@acme.example",
    token: str | None = None,
) -> None:
    """Add an email with its outcome. ``token`` is that of its return path."""
    emails, token = tables.emails, token or f"{request_id} {email}"
    key = {"kind": email.kind, "addressee": email.to, "number": email.number}
    async with transaction(store.engine, writes=True) as connection:
        await connection.execute(delete(emails).filter_by(request_id=request_id, **key))
        await connection.execute(
            insert(emails).values(
                request_id=request_id,
                **key,
                **outcome.model_dump(),
                recipient=recipient,
                message_id=f"<{token}>",
                return_token_hash=token_hash(token),
            )
        )
