"""What a start is told about the request that holds the domain."""

from typing import Any, cast

import pytest
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.names import REQUESTER_ISSUER, REQUESTER_SUBJECT, STATUS
from smart_accounts.errors import AlreadyOpen, Rejected
from smart_accounts.temporal.client import RequestClient

PAT, KIM = Identity("https://id.example", "pat"), Identity("https://id.example", "kim")
REQUEST = SmartAccountRequest.model_validate(
    {
        "account_name": "Acme Networks",
        "customer_email": "ada@acme.example",
        "requester": {"email": "kim@partner.example", "name": "Kim", "company": "Partner Ltd"},
    }
)


class OpenWorkflow:
    """A workflow that still sends the last emails of a request that Pat made."""

    def __init__(self, status: str, memo: dict[str, str]) -> None:
        self.typed_search_attributes = {STATUS: status}
        self._memo = memo

    async def start_workflow(self, *_: Any, **__: Any) -> None:
        raise WorkflowAlreadyStartedError("smart-account-acme.example", "type")

    def get_workflow_handle(self, _: str) -> "OpenWorkflow":
        return self

    async def describe(self, **_: Any) -> "OpenWorkflow":
        return self

    async def memo_value(self, name: str, default: None) -> str | None:
        return self._memo.get(name, default)


@pytest.mark.parametrize(
    ("caller", "owner", "status", "words"),
    [
        (PAT, PAT, "declined", "ended as declined, and its last emails are still being sent."),
        (None, PAT, "declined", "ended as declined, and its last emails are still being sent."),
        (KIM, PAT, "declined", "is being closed."),
        (KIM, None, "declined", "is being closed."),
        (KIM, PAT, "pending", "is already under way."),
    ],
    ids=["its owner", "command line", "another partner", "no owner", "open"],
)
async def test_only_its_owner_learns_how_a_request_ended(
    caller: Identity | None, owner: Identity | None, status: str, words: str
) -> None:
    memo = {REQUESTER_ISSUER: owner.issuer, REQUESTER_SUBJECT: owner.subject} if owner else {}
    client = RequestClient(cast(Client, OpenWorkflow(status, memo)))
    with pytest.raises(Rejected) as rejected:
        await client.start(REQUEST, owner=caller)
    assert words in str(rejected.value)
    assert ("Try again in at most 60 minutes." in str(rejected.value)) is (status != "pending")
    assert isinstance(rejected.value, AlreadyOpen) is (status == "pending")
