"""Histories of every release must replay, because open requests outlive a deploy."""

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from smart_accounts.contract import domains, fields
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.names import (
    HOW_IT_ENDED,
    SWEEP_ID,
    SWEEP_TYPE,
    closing_id,
    erased_id,
    remaining_emails_id,
    webhook_delivery_id,
    workflow_id,
)
from smart_accounts.temporal.guard import worker_data_converter
from tests.support.web_settings import client_settings
from workflows import smart_account_request
from workflows.options import workflow_options

HISTORY_FOLDER = Path(__file__).parents[1] / "histories"
HISTORIES = sorted(HISTORY_FOLDER.glob("*.json"))


def test_there_are_histories() -> None:
    assert {path.stem for path in HISTORIES} >= {
        "accepted",
        "accepted-before-the-link",
        "accepted-by-a-new-approver",
        "accepted-through-a-second-link",
        "accepted-with-local-emails",
        "approved",
        "approved-with-local-emails",
        "approver-named-again",
        "account-closed",
        "bounced",
        "cancelled",
        "cancelled-after-an-early-answer",
        "declined",
        "declined-after-local-emails-failed",
        "declined-during-a-mail-outage",
        "declined-with-remaining-mails",
        "early-answer-dropped",
        "lapsed",
        "lapsed-in-review",
        "lapsed-with-local-emails",
        "lapsed-with-reminders",
        "rejected",
        "rejected-after-review",
        "remaining-mails",
        "resent",
        "resent-with-local-emails",
        "restarted",
        "restarted-and-answered-before-the-checks",
        "started-under-older-rules",  # accepted.json with an input that new rules reject
        "started-with-defaults",  # lapsed-with-reminders.json with an input that names neither
        "sweep",
        "undeliverable",
        "undeliverable-with-local-emails",
        "webhook-continued",
        "webhook-delivered",
        "withdrawn",
        "withdrawn-after-an-early-answer",
        "withdrawn-after-an-early-answer-to-a-new-link",
        "withdrawn-again",
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


BREAK_NEW_RULES: dict[str, dict[str, object]] = {
    "the requester's own mailbox": {"customer_email": "pat+x@partner.example"},
    "two users with one mailbox": {"user_emails": ["bo@acme.example", "bo+1@acme.example"]},
    "free mail": {"customer_email": "ada@gmail.com", "account_domain": "gmail.com"},
    "combining marks": {"account_name": "Acme a" + "\u0301" * 40},
    "longer than read today": {"note_to_customer": " " * 5000 + "As agreed."},
}


@pytest.mark.parametrize("name", ["declined", "lapsed-with-reminders", "withdrawn"])
@pytest.mark.parametrize("rule", BREAK_NEW_RULES)
async def test_history_with_an_input_that_new_rules_reject_replays(name: str, rule: str) -> None:
    history = json.loads((HISTORY_FOLDER / f"{name}.json").read_text())
    started = history["events"][0]["workflowExecutionStartedEventAttributes"]
    payload = started["input"]["payloads"][0]
    start_input = json.loads(b64decode(payload["data"])) | BREAK_NEW_RULES[rule]
    with pytest.raises(ValidationError):
        SmartAccountRequest.model_validate(start_input)
    payload["data"] = b64encode(json.dumps(start_input).encode()).decode()
    await replay_history(history)


@pytest.mark.parametrize("name", ["approver-named-again", "withdrawn-again"])
async def test_history_with_a_rejected_repeat_replays(name: str) -> None:
    """Earlier releases rejected a repeat that two clients sent at the same time."""
    history = json.loads((HISTORY_FOLDER / f"{name}.json").read_text())
    changed = 0
    for event in history["events"]:
        completed = event.get("workflowExecutionUpdateCompletedEventAttributes", {})
        for payload in completed.get("outcome", {}).get("success", {}).get("payloads", []):
            if "Nothing was changed" in b64decode(payload["data"]).decode():
                failure = {
                    "message": "Too late.",
                    "applicationFailureInfo": {"type": "ActionRefused"},
                }
                completed["outcome"] = {"failure": failure}
                changed += 1
    assert changed >= 2
    await replay_history(history)


@pytest.mark.parametrize(
    "name", ["accepted-by-a-new-approver", "approver-named-again", "resent", "withdrawn-again"]
)
async def test_history_with_more_updates_than_a_request_accepts_replays(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for limit in ("MAX_REPEATS", "MAX_REFUSALS", "MAX_LINKS"):
        monkeypatch.setattr(smart_account_request, limit, 0)
    await replay(HISTORY_FOLDER / f"{name}.json")


class NewRequest(BaseModel):
    account_domain: fields.AccountDomain


async def replay(path: Path, runner: WorkflowRunner | None = None) -> None:
    await replay_history(json.loads(path.read_text()), runner)


async def replay_history(history: dict[str, Any], runner: WorkflowRunner | None = None) -> None:
    options = workflow_options()
    if runner:
        options["workflow_runner"] = runner
    replayer = Replayer(**options, data_converter=worker_data_converter(client_settings()))
    started = history["events"][0]["workflowExecutionStartedEventAttributes"]
    start_input = json.loads(b64decode(started["input"]["payloads"][0]["data"]))
    if started["workflowType"]["name"] == SWEEP_TYPE:
        history_id = SWEEP_ID
    elif "endpoint_id" in start_input:
        history_id = webhook_delivery_id(start_input["endpoint_id"])
    elif "request_id" in start_input:
        id_of = closing_id if start_input.get("closing") else remaining_emails_id
        if HOW_IT_ENDED in started.get("memo", {}).get("fields", {}):
            id_of = erased_id
        history_id = id_of(start_input["request_id"])
    else:
        history_id = workflow_id(start_input.get("account_domain", ""))
    await replayer.replay_workflow(WorkflowHistory.from_json(history_id, history))
