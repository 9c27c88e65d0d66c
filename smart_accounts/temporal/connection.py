"""Connecting to Temporal, and its errors in plain words."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, RPCTimeoutOrCancelledError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from smart_accounts.contract.names import SEARCH_ATTRIBUTES
from smart_accounts.errors import BadSetting, NotFound, Unavailable

_NO_ANSWER = "Temporal does not answer; nothing was lost, try again."
NOT_OPEN = "There is no open request there."
_DOWN = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)

_log = logging.getLogger(__name__)


async def connect(
    *,
    lazy: bool = False,
    data_converter: DataConverter = pydantic_data_converter,
    runtime: Runtime | None = None,
) -> Client:
    """A client for the server that the ``TEMPORAL_*`` variables name.

    Raises:
        Unavailable: the server does not answer; with ``lazy`` the first call tells.
    """
    try:
        config = ClientConfig.load_client_connect_config()
    except RuntimeError as error:
        raise BadSetting(f"bad TEMPORAL_ settings: {error}") from None
    config.setdefault("target_host", "localhost:7233")
    with plain_errors():
        return await Client.connect(
            **config, data_converter=data_converter, lazy=lazy, runtime=runtime
        )


async def require_search_attributes(client: Client) -> None:
    """Check that the namespace knows the search attributes; without them a start would hang.

    Raises:
        BadSetting: one or more are missing; says how to add them.
    """
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        if error.status in (RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.PERMISSION_DENIED):
            return  # a server that doesn't tell
        if error.status == RPCStatusCode.NOT_FOUND:
            raise BadSetting(f"Temporal has no namespace {client.namespace}") from None
        raise Unavailable("Temporal does not answer.") from error
    missing = [name for name in SEARCH_ATTRIBUTES if name not in known.custom_attributes]
    if missing:
        flags = " ".join(f"--name {name} --type {SEARCH_ATTRIBUTES[name]}" for name in missing)
        raise BadSetting(
            f"Temporal's namespace {client.namespace} lacks search attributes; add them with: "
            f"temporal operator search-attribute create {flags}"
        )


@contextmanager
def plain_errors(no_answer: str = _NO_ANSWER) -> Iterator[None]:
    try:
        yield
    except RPCError as error:
        if error.status in _DOWN:
            raise Unavailable(no_answer) from error
        if error.status == RPCStatusCode.NOT_FOUND and not _is_about_the_namespace(error):
            raise NotFound(NOT_OPEN) from None
        _log.warning("Temporal answered %s: %s", error.status.name, error.message)
        raise Unavailable(f"Temporal answered {error.status.name}; try again later.") from error
    # What a failed connection raises, and an update that is not answered.
    except (RuntimeError, TimeoutError, RPCTimeoutOrCancelledError) as error:
        raise Unavailable(no_answer) from error


@asynccontextmanager
async def within(limit: timedelta, no_answer: str = _NO_ANSWER) -> AsyncIterator[None]:
    """Plain errors, and an end to waiting: a call's own time-out starts once it is connected."""
    with plain_errors(no_answer):
        async with asyncio.timeout(limit.total_seconds()):
            yield


def _is_about_the_namespace(error: RPCError) -> bool:
    details = error.grpc_status.details
    return any(detail.Is(NamespaceNotFoundFailure.DESCRIPTOR) for detail in details)
