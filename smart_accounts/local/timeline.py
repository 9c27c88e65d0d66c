"""The timeline that ``make demo`` prints for a request."""

from datetime import UTC, datetime

from smart_accounts.contract.messages import EmailKind, RequestStatus, Status

_AFTER_ACTIVATION = (EmailKind.ACTIVATED, EmailKind.WELCOME, EmailKind.ACCESS_GRANTED)


def timeline(status: RequestStatus, ended_at: datetime) -> str:
    """Return the timeline of an ended request, one line per event.

    ``ended_at`` is the time when the request was first seen in its final status.
    """
    deadline = f"{status.deadline.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    events = [(status.requested_at, f"requested; to be accepted by {deadline}")]
    events += [
        (email.at, f"email {email.kind} to {email.recipient} {email.state}")
        for email in status.emails
    ]
    events += _end(status, ended_at)
    lines = [
        f"  {at.astimezone(UTC):%H:%M:%S.%f}"[:-3] + f"  {what}" for at, what in sorted(events)
    ]
    heading = f"{status.account_name} ({status.account_domain}): {status.status}; times in UTC"
    return "\n".join([heading, *lines])


def _end(status: RequestStatus, ended_at: datetime) -> list[tuple[datetime, str]]:
    decided_at = status.decided_at or ended_at
    if status.status is not Status.ACTIVE:
        return [(decided_at, f"{status.status}: the customer did not answer in time")]
    # The account was active before the first email that says so, and that email may have been
    # sent before the demo saw the final status.
    announced = [email.at for email in status.emails if email.kind in _AFTER_ACTIVATION]
    return [(decided_at, "accepted by the customer"), (min([ended_at, *announced]), "active")]
