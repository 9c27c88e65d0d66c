"""Start the workflow of a request."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.names import (
    DEADLINE,
    DOMAIN,
    STATUS,
    TASK_QUEUE,
    WORKFLOW_TYPE,
    workflow_id,
)
from smart_accounts.temporal.errors import RPC_TIMEOUT, time_limit


async def start_workflow(
    client: Client, request: SmartAccountRequest, deadline: datetime, memo: Mapping[str, Any]
) -> WorkflowHandle[Any, Any]:
    """Start a request with its search attributes, which saves an event.

    Raises:
        WorkflowAlreadyStartedError: A request for the domain is open.
    """
    domain = request.account_domain
    attributes: list[SearchAttributePair[Any]] = [
        SearchAttributePair(STATUS, Status.PENDING.value),
        SearchAttributePair(DOMAIN, domain),
        SearchAttributePair(DEADLINE, deadline),
    ]
    async with time_limit(RPC_TIMEOUT):
        return await client.start_workflow(
            WORKFLOW_TYPE,
            request.model_dump(mode="json", exclude_defaults=True),
            id=workflow_id(domain),
            task_queue=TASK_QUEUE,
            search_attributes=TypedSearchAttributes(attributes),
            static_summary=f"Smart Account for {domain}",
            memo=memo,
            rpc_timeout=RPC_TIMEOUT,
        )
