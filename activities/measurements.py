"""What the activities count and measure. ``docs/operations.md`` lists the metrics."""

from datetime import UTC, datetime

from temporalio import activity

from smart_accounts.contract.messages import EmailKind, EmailState
from smart_accounts.contract.steps import Email, EmailOutcome
from smart_accounts.mail.smtp import MailError, Unreachable
from smart_accounts.store.records import StoredRequest
from smart_accounts.temporal.metrics import (
    EMAILS,
    TIME_TO_ACTIVATION_EMAIL,
    TIME_TO_ACTIVE,
    Attempt,
)


def email_sent(email: Email, request: StoredRequest, at: datetime) -> None:
    count_email(email.kind, Attempt.SENT)
    if email.kind is EmailKind.ACTIVATION and email.number == 1:
        asked_at = request.approved_at or request.requested_at
        TIME_TO_ACTIVATION_EMAIL.record(activity.metric_meter(), at - asked_at)


def email_not_sent(kind: EmailKind, error: MailError, outcome: EmailOutcome | None = None) -> None:
    if outcome and outcome.state == EmailState.FAILED:
        count_email(kind, Attempt.FAILED)
    else:
        is_down = isinstance(error, Unreachable)
        count_email(kind, Attempt.UNREACHABLE if is_down else Attempt.DELAYED)


def count_email(kind: EmailKind, attempt: Attempt) -> None:
    EMAILS.add(activity.metric_meter(), kind=kind, outcome=attempt)


def account_activated(accepted_at: datetime) -> None:
    TIME_TO_ACTIVE.record(activity.metric_meter(), datetime.now(UTC) - accepted_at)
