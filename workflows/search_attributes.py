"""The search attributes of a request."""

from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.messages import Status
    from smart_accounts.contract.names import DEADLINE, DOMAIN, STATUS


def add_missing(account_domain: str, deadline: datetime) -> None:
    """Add the search attributes, unless the client has given them. Our own clients do."""
    given = workflow.info().typed_search_attributes
    if any(given.get(key) is None for key in (STATUS, DOMAIN, DEADLINE)):
        workflow.upsert_search_attributes(
            [
                STATUS.value_set(Status.PENDING),
                DOMAIN.value_set(account_domain),
                DEADLINE.value_set(deadline),
            ]
        )


def set_status(status: Status) -> None:
    workflow.upsert_search_attributes([STATUS.value_set(status)])
