"""What web and API note in the memo of a request that they start."""

from typing import Any

from temporalio.client import WorkflowExecution, WorkflowExecutionDescription

from smart_accounts.contract.identity import Identity, identity_of
from smart_accounts.contract.names import (
    IDEMPOTENCY_KEY,
    MAX_KEY,
    REQUESTER_ISSUER,
    REQUESTER_SUBJECT,
    RESTARTS,
)


def memo(key: str | None, owner: Identity | None) -> dict[str, Any]:
    """Return the memo of a start with this idempotency key by this person."""
    noted: dict[str, Any] = {}
    if key:
        noted[IDEMPOTENCY_KEY] = key
    if owner:
        noted |= {REQUESTER_ISSUER: owner.issuer, REQUESTER_SUBJECT: owner.subject}
    return noted


async def owner_in(described: WorkflowExecutionDescription) -> Identity | None:
    """Return the person who started the request through web or API, as its memo says."""
    return identity_of(
        await memo_value(described, REQUESTER_ISSUER),
        await memo_value(described, REQUESTER_SUBJECT),
    )


async def request_id_in(execution: WorkflowExecution) -> str:
    """Return the id of the request that a run began, or continues after a reset or a restart.

    Any client can set the memo of a start. A run whose memo is wrong fails at once, because the
    store rejects it, so that only its first moment can mislead.
    """
    restarted = await memo_value(execution, RESTARTS)
    return str(restarted or execution.raw_info.first_run_id or execution.run_id)


def memo_text(value: Any) -> str | None:
    """Return a value of a memo. Any client can set it, so ignore all but short printable text."""
    is_text = isinstance(value, str) and value.isprintable() and len(value) <= MAX_KEY
    return value if is_text else None


async def memo_value(described: WorkflowExecution, name: str) -> Any:
    """Return a value, or None if there is none. Any client can set the memo to anything."""
    try:
        return await described.memo_value(name, None)
    except (ValueError, TypeError, KeyError, RuntimeError):
        return None
