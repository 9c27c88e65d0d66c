"""A request's steps on the account store: short ones, run within the workflow task."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.accounts import AccountActivities
    from smart_accounts.contract.steps import (
        Checked,
        Decision,
        IssueLink,
        OpenRequest,
        RecordDecision,
    )

DATABASE = workflow.LocalActivityConfig(
    start_to_close_timeout=timedelta(seconds=30),
    # Longer pauses become timers: a workflow task kept open grows the history every few seconds,
    # and answers no query.
    local_retry_threshold=timedelta(seconds=2),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=200),
        # Each of those timers is six events: at one every 30 s an outage of three days would
        # reach the 51,200 at which Temporal ends a run.
        maximum_interval=timedelta(minutes=5),
    ),
)
# A regular activity's retries are not in the history, and a person waits for this one.
LINK_RETRIES = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=30)
)


async def check_and_open(new: OpenRequest) -> Checked:
    return await workflow.execute_local_activity_method(
        AccountActivities.open_request,
        new,
        **(DATABASE | {"summary": "System checks, provisional account"}),
    )


async def issue_link(link: IssueLink) -> Checked:
    # No local one: the update that asks for it must be in the history before the store changes,
    # or a worker's death in between leaves a link in force that no one was sent.
    return await workflow.execute_activity_method(
        AccountActivities.issue_link,
        link,
        start_to_close_timeout=DATABASE["start_to_close_timeout"],
        retry_policy=LINK_RETRIES,
        summary="New activation link",
    )


async def activate(record: RecordDecision) -> Decision:
    return await workflow.execute_local_activity_method(
        AccountActivities.activate_account,
        record,
        **(DATABASE | {"summary": "Activate the account, give access"}),
    )


async def close(record: RecordDecision) -> Decision:
    return await workflow.execute_local_activity_method(
        AccountActivities.close_request,
        record,
        **(DATABASE | {"summary": f"Record the end: {record.decision.status}"}),
    )
