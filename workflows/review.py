"""The review of an odd request by an operator."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.reviews import ReviewActivities
    from smart_accounts.contract.actions import Review, ReviewDecision
    from smart_accounts.temporal.metrics import REVIEWS_NEEDED
    from workflows.links import action_refused

NOT_REVIEWED = "No operator reviewed the request in time."
IN_REVIEW = "The request is in review. To change it, withdraw it and make a new one."


def check_same_decision(given: Review, review: Review) -> None:
    """Check that an operator who decides again decides the same.

    Raises:
        ApplicationError: An operator has already decided otherwise.
    """
    if given.decision != review.decision:
        done = "approved" if given.decision is ReviewDecision.APPROVE else "rejected"
        raise action_refused(f"Too late: an operator has already {done} the request.")


async def tell_operators(request_id: str) -> None:
    """Count the review, and tell the operators by email, until this is cancelled."""
    REVIEWS_NEEDED.add(workflow.metric_meter())
    try:
        await workflow.execute_activity_method(
            ReviewActivities.tell_operators,
            request_id,
            start_to_close_timeout=timedelta(minutes=15),
            retry_policy=RetryPolicy(maximum_interval=timedelta(minutes=10)),
            summary="Tell the operators",
        )
    except ActivityError:
        workflow.logger.info("The review ended before the operators were told")
