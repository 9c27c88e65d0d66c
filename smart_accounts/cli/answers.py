"""Send the customer's answer from the command line, and show the result."""

from collections.abc import Awaitable, Sequence

from smart_accounts.cli import output
from smart_accounts.contract.messages import RequestStatus, Status
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.ended import check_ended

NOT_PROCESSED_YET = "No worker has processed it yet. It continues as soon as a worker runs."


async def send(
    client: RequestClient,
    workflow_id: str,
    answer: Awaitable[None],
    expected: Sequence[Status],
    *,
    as_json: bool,
) -> None:
    """Send an answer and show the request's status, which must be one of ``expected``.

    Sending the same answer again succeeds and changes nothing.

    Raises:
        Rejected: the answer does not count.
    """
    status = await _status_after(answer, client, workflow_id)
    if status is not None and status.status is Status.IN_REVIEW:
        raise Rejected("The request is in review. Until it is approved, no answer counts.")
    # Temporal also accepts a signal that follows another decision, and it changes nothing.
    if status is not None and status.status not in (*expected, Status.REQUESTED, Status.PENDING):
        raise Rejected(f"Another decision was made before. The request is {status.status}.")
    if as_json:
        output.show_json({"workflow_id": workflow_id, "status": output.status_json(status)})
    elif status is None:
        output.show(f"Received. {NOT_PROCESSED_YET}")
    else:
        output.show(f"Received. The request for {status.account_domain} is {status.status}.")


async def _status_after(
    answer: Awaitable[None], client: RequestClient, workflow_id: str
) -> RequestStatus | None:
    """Send the answer and return the status, or ``None`` if no worker responds."""
    try:
        await answer
    except NotFound:  # the request has ended, maybe with the same answer
        return check_ended(await client.status(workflow_id))
    try:
        return await client.status(workflow_id)
    except Unavailable:
        return None  # Temporal has recorded the signal
