"""The time line of a request that ended, in words, from what the query ``status`` answers."""

from datetime import UTC, datetime

from smart_accounts.contract.messages import EmailKind, RequestStatus, Status

_AFTER_ACTIVATION = (EmailKind.ACTIVATED, EmailKind.WELCOME, EmailKind.ACCESS_GRANTED)


def timeline(status: RequestStatus, ended_at: datetime) -> str:
    """Several lines; ``ended_at`` is when the request was first seen to have ended."""
    events = [
        (
            status.requested_at,
            f"requested; to be accepted by {status.deadline.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        )
    ]
    events += [
        (mail.at, f"email {mail.kind} to {mail.recipient} {mail.state}") for mail in status.emails
    ]
    events += _end(status, ended_at)
    lines = [
        f"  {at.astimezone(UTC):%H:%M:%S.%f}"[:-3] + f"  {what}" for at, what in sorted(events)
    ]
    head = f"{status.account_name} ({status.account_domain}): {status.status}; times in UTC"
    return "\n".join([head, *lines])


def _end(status: RequestStatus, ended_at: datetime) -> list[tuple[datetime, str]]:
    decided_at = status.decided_at or ended_at
    if status.status is not Status.ACTIVE:
        return [(decided_at, f"{status.status}: nobody answered in time")]
    # The emails that tell of it may have left before we looked again.
    told = [mail.at for mail in status.emails if mail.kind in _AFTER_ACTIVATION]
    return [(decided_at, "accepted by the customer"), (min([ended_at, *told]), "active")]
