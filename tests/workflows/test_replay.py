"""Histories of every release must replay, because open requests outlive a deploy."""

import json
from base64 import b64decode
from pathlib import Path

import pytest
from pydantic import BaseModel
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from smart_accounts.contract import domains, fields
from smart_accounts.contract.names import workflow_id
from smart_accounts.temporal.guard import GuardInterceptor, worker_data_converter
from workflows.remaining_emails import RemainingEmailsWorkflow
from workflows.smart_account_request import SmartAccountRequestWorkflow

HISTORY_FOLDER = Path(__file__).parents[1] / "histories"
HISTORIES = sorted(HISTORY_FOLDER.glob("*.json"))


def test_there_are_histories() -> None:
    assert {path.stem for path in HISTORIES} >= {
        "accepted",
        "accepted-by-a-new-approver",
        "account-closed",
        "bounced",
        "cancelled",
        "declined",
        "declined-during-a-mail-outage",
        "declined-with-remaining-mails",
        "lapsed",
        "lapsed-with-reminders",
        "rejected",
        "remaining-mails",
        "resent",
        "started-under-older-rules",  # accepted.json with an input that new rules reject
        "started-with-defaults",  # lapsed-with-reminders.json with an input that names neither
        "undeliverable",
        "withdrawn",
    }


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_history_replays(path: Path) -> None:
    await replay(path)


@pytest.mark.parametrize(
    "name", ["accepted", "lapsed-with-reminders", "declined-with-remaining-mails"]
)
async def test_workflow_code_passes_the_sandbox(name: str) -> None:
    """Run in the sandbox, which rejects calls that are not deterministic. Production has none."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules("email_validator", "idna")
    await replay(HISTORY_FOLDER / f"{name}.json", SandboxedWorkflowRunner(restrictions))


@pytest.mark.parametrize("name", ["accepted", "accepted-by-a-new-approver"])
async def test_history_replays_after_its_domain_is_listed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(domains, "FREE_MAIL", {"acme.example"})
    with pytest.raises(ValueError, match="free-mail"):
        NewRequest(account_domain="acme.example")
    await replay(HISTORY_FOLDER / f"{name}.json")


class NewRequest(BaseModel):
    account_domain: fields.AccountDomain


async def replay(path: Path, runner: WorkflowRunner | None = None) -> None:
    replayer = Replayer(
        workflows=[SmartAccountRequestWorkflow, RemainingEmailsWorkflow],
        interceptors=[GuardInterceptor()],
        data_converter=worker_data_converter,
        workflow_runner=runner or UnsandboxedWorkflowRunner(),  # as in production
    )
    history = json.loads(path.read_text())
    started = history["events"][0]["workflowExecutionStartedEventAttributes"]
    start_input = json.loads(b64decode(started["input"]["payloads"][0]["data"]))
    history_id = workflow_id(start_input.get("account_domain", ""))
    await replayer.replay_workflow(WorkflowHistory.from_json(history_id, history))
