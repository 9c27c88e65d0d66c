"""The steps of a request on the account store."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.accounts import AccountActivities
    from smart_accounts.contract.messages import Status
    from smart_accounts.contract.steps import (
        Approve,
        Checked,
        CloseAccount,
        ClosedAccount,
        Decision,
        IssueLink,
        OpenRequest,
        RecordDecision,
    )

# For local activities. These steps are short and need fewer events that way.
STORE_OPTIONS = workflow.LocalActivityConfig(
    start_to_close_timeout=timedelta(seconds=30),
    # A longer pause between tries becomes a timer. A workflow task that stays open instead adds
    # events every few seconds and blocks queries.
    local_retry_threshold=timedelta(seconds=2),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=200),
        # Each of these timers is six events. With one every 30 s, an outage of three days would
        # reach 51,200 events, where Temporal ends a run.
        maximum_interval=timedelta(minutes=5),
    ),
)
# Short pauses, because a person waits. The retries of a regular activity add no events.
SHORT_PAUSES = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=30)
)


async def check_and_open(new: OpenRequest) -> Checked:
    """Run the system checks and open the provisional account."""
    return await workflow.execute_local_activity_method(
        AccountActivities.open_request,
        new,
        **(STORE_OPTIONS | {"summary": "System checks, provisional account"}),
    )


async def approve(request_id: str, at: datetime) -> None:
    """Record that an operator approved the request.

    This is a regular activity for the reason that ``issue_link`` gives.
    """
    await workflow.execute_activity_method(
        AccountActivities.approve_request,
        Approve(request_id=request_id, at=at),
        start_to_close_timeout=STORE_OPTIONS["start_to_close_timeout"],
        retry_policy=SHORT_PAUSES,
        summary="Record the approval",
    )


async def issue_link(link: IssueLink) -> Checked:
    """Check the request again and replace the activation link.

    This is a regular activity, because the history must hold the update before the store changes.
    With a local one, a worker that crashes in between would leave a link that nobody was sent.
    """
    return await workflow.execute_activity_method(
        AccountActivities.issue_link,
        link,
        start_to_close_timeout=STORE_OPTIONS["start_to_close_timeout"],
        retry_policy=SHORT_PAUSES,
        summary="New activation link",
    )


async def record_decision(decided: RecordDecision) -> Decision:
    """Activate the account and give access, or close it. Returns the decision in the store."""
    status = decided.decision.status
    if status == Status.ACTIVE:
        step, summary = AccountActivities.activate_account, "Activate the account, give access"
    else:
        step, summary = AccountActivities.close_request, f"Record the end: {status}"
    return await workflow.execute_local_activity_method(
        step, decided, **(STORE_OPTIONS | {"summary": summary})
    )


async def close_account(close: CloseAccount) -> ClosedAccount:
    """Close an active account, which frees its domain. Returns the closing in the store."""
    return await workflow.execute_local_activity_method(
        AccountActivities.close_account,
        close,
        **(STORE_OPTIONS | {"summary": "Close the account, end access"}),
    )
