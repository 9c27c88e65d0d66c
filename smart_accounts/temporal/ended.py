"""Actions on a request whose workflow has ended. A repeat succeeds and changes nothing."""

from smart_accounts.contract.actions import (
    ActionMessage,
    ActionResult,
    Review,
    ReviewDecision,
    Role,
    Withdrawal,
)
from smart_accounts.contract.messages import Message, RequestStatus, Status
from smart_accounts.errors import NotFound

_CUSTOMER_WAS_ASKED = (Status.ACTIVE, Status.DECLINED, Status.UNDELIVERABLE)


def check_ended(status: RequestStatus) -> RequestStatus:
    """Return the status of a request whose workflow has closed.

    Raises:
        NotFound: Nothing was decided, because an operator terminated the workflow.
    """
    if not status.status.is_final:
        raise NotFound("Too late: the request has ended.")
    return status


def repeat(action: Message, status: RequestStatus) -> ActionResult:
    """Return the result of an action that repeats what was decided.

    Raises:
        NotFound: Something else was decided, or nothing. The message says what.
    """
    ended = check_ended(status).status
    if isinstance(action, Withdrawal) and action.repeats(ended, status.decided_by):
        return ActionResult(status=ended, message=ActionMessage.WITHDRAWN_BEFORE)
    if isinstance(action, Review) and action.decision is _review_decision(status):
        return ActionResult(status=ended, message=action.done_message)
    raise NotFound(f"Too late: the request is already {ended}.")


def _review_decision(status: RequestStatus) -> ReviewDecision | None:
    """Return what an operator decided, as far as the final status shows it."""
    if status.status is Status.REJECTED:
        return ReviewDecision.REJECT if status.decided_by == Role.OPERATOR else None
    was_approved = status.needs_attention and status.status in _CUSTOMER_WAS_ASKED
    return ReviewDecision.APPROVE if was_approved else None
