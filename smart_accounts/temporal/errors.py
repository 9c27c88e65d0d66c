"""Temporal's errors as the errors of this project."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import RPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import CLOSING_TIME, Status
from smart_accounts.contract.names import INVALID_REQUEST
from smart_accounts.errors import (
    AlreadyOpen,
    NeedsOperator,
    NoResponse,
    NotFound,
    Rejected,
    Unavailable,
)
from smart_accounts.temporal.codec import UnreadablePayload

RPC_TIMEOUT = timedelta(seconds=2)
QUERY_TIMEOUT = timedelta(seconds=5)  # includes a worker

NOT_OPEN = "There is no open request with this id."
_UNAVAILABLE = "Temporal does not respond. Nothing was lost; try again."
_LATE = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)

_log = logging.getLogger(__name__)


@contextmanager
def translate_errors(unavailable: str = _UNAVAILABLE) -> Iterator[None]:
    """Raise ``NotFound`` and ``Unavailable`` in place of Temporal's errors."""
    try:
        yield
    except RPCError as error:
        if error.status in _LATE:
            raise NoResponse(unavailable) from error
        if error.status == RPCStatusCode.UNAVAILABLE:
            raise Unavailable(unavailable) from error
        if error.status == RPCStatusCode.NOT_FOUND and not _is_about_the_namespace(error):
            raise NotFound(NOT_OPEN) from None
        _log.warning("Temporal rejected a call with %s: %s", error.status.name, error.message)
        raise NeedsOperator(
            f"Temporal rejected the call with {error.status.name}. Try again later. If it fails"
            " again, check Temporal's address, namespace, API key and search attributes."
        ) from error
    except UnreadablePayload as error:
        raise NeedsOperator(
            f"Temporal's response cannot be read: {error}. Check the settings"
            " SMART_ACCOUNTS_PAYLOAD_KEYS and SMART_ACCOUNTS_PAYLOAD_PLAINTEXT."
        ) from error
    except RuntimeError as error:  # a failed connection
        raise Unavailable(unavailable) from error
    except (TimeoutError, RPCTimeoutOrCancelledError) as error:
        raise NoResponse(unavailable) from error


@asynccontextmanager
async def time_limit(limit: timedelta, unavailable: str = _UNAVAILABLE) -> AsyncIterator[None]:
    """Limit the time of a call to Temporal, and translate its errors.

    The call's ``rpc_timeout`` alone is not enough, because it starts only once the client is
    connected.
    """
    with translate_errors(unavailable):
        async with asyncio.timeout(limit.total_seconds()):
            yield


def domain_taken(domain: str, status: str | None, *, may_know: bool = False) -> Rejected:
    """Return the error of a start for a domain whose workflow is still open.

    ``status`` is the status of the open workflow's request, if it is known. ``may_know`` says
    whether the caller may learn how that request ended.
    """
    if status not in [each.value for each in Status if each.is_final]:
        return AlreadyOpen(f"A request for {domain} is already under way.")
    minutes = CLOSING_TIME // timedelta(minutes=1)
    end = f"ended as {status}, and its last emails are still being sent"
    return Rejected(
        f"The last request for {domain} {end if may_know else 'is being closed'}."
        f" Try again in at most {minutes} minutes."
    )


def update_failed(cause: BaseException | None) -> Rejected | BadInput:
    """Return the error of an update that the workflow rejected."""
    if isinstance(cause, ApplicationError) and cause.type == INVALID_REQUEST:
        return BadInput([FieldError.model_validate(each) for each in cause.details[0]])
    message = cause.message if isinstance(cause, FailureError) else None
    return Rejected(message or "The request has ended.")


def _is_about_the_namespace(error: RPCError) -> bool:
    details = error.grpc_status.details
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in details)
