"""What people read about the progress of a request. None of it is personal data."""

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.messages import RequestStatus, Status
    from smart_accounts.contract.steps import Decision
    from smart_accounts.text import utc


def next_step(
    status: Status,
    decision: Decision | None,
    deadline: datetime,
    waiting_until: datetime | None,
    after_end: str | None,
) -> str | None:
    """Return what happens next in a request, or ``None`` if nothing does.

    ``waiting_until`` is the end of the review, the next reminder or the deadline. ``after_end`` is
    what still happens once the request has ended.
    """
    if decision and not status.is_final:
        return f"The decision is being recorded: {decision.status}."
    if status == Status.PENDING:
        step = f"Waits for the customer's answer until {utc(deadline)}."
        if waiting_until and waiting_until < deadline:
            step += f" Next reminder {utc(waiting_until)}."
        return step
    if status == Status.IN_REVIEW and waiting_until:
        return f"Waits for an operator's review until {utc(waiting_until)}."
    if status == Status.REQUESTED:
        return "The system checks are under way."
    return after_end


def current_details(request: RequestStatus) -> str:
    """Return the details of a request in the Web UI, in Markdown."""
    since = ""
    if request.status.is_final and request.decided_at:
        since = f" since {utc(request.decided_at)}"
    lines = [f"Smart Account for **{request.account_domain}**: {request.status}{since}."]
    if request.next_step:
        lines.append(request.next_step)
    lines += [f"Needs attention: {reason}" for reason in request.needs_attention]
    return "\n\n".join(lines)
