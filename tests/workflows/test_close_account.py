"""An operator closes an active account: access ends, the domain is free, and everyone is told."""

import asyncio
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from smart_accounts.contract.actions import ActionMessage, Actor, Closing, Role
from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.names import (
    INVALID_REQUEST,
    REMAINING_EMAILS_TYPE,
    TASK_QUEUE,
    closing_id,
)
from smart_accounts.contract.steps import Addressee, Email, SendEmails
from smart_accounts.errors import Rejected
from tests.support.histories import Keep
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, REQUESTER, USER, Scenario, text_of
from tests.support.store import Query

CLOSING = Closing(
    account_domain="acme.example",
    reason="The company asked us to.",
    by=Actor(role=Role.OPERATOR, subject="opal"),
)
EVERYONE = (CUSTOMER, REQUESTER, USER)


@pytest.fixture
def env(dev_server_env: WorkflowEnvironment) -> WorkflowEnvironment:
    # The client waits for a workflow's first task, which on the time-skipping server ends only
    # with the workflow.
    return dev_server_env


async def start_active(scenario: Scenario) -> str:
    """Start a request and accept it. Return its id once its workflow has ended."""
    await scenario.start()
    await scenario.until(Status.PENDING, sent=2)
    await scenario.accept()
    await scenario.until_closed()
    return scenario.started.request_id


async def closing_is_over(scenario: Scenario, request_id: str) -> Any:
    handle = scenario.env.client.get_workflow_handle(closing_id(request_id))
    await handle.result()
    return await handle.fetch_history()


async def test_access_ends_and_the_domain_is_free(
    scenario: Scenario, mail_server: MailServer, query_store: Query, keep: Keep
) -> None:
    async with scenario.worker():
        request_id = await start_active(scenario)
        closed = await scenario.client.close(request_id, CLOSING)
        assert closed.message == ActionMessage.CLOSED
        keep("account-closed", await closing_is_over(scenario, request_id))
        stored = await scenario.stored()
        assert (stored.status, stored.close_reason, stored.closed_by) == (
            Status.ACTIVE,
            "The company asked us to.",
            "opal",
        )
        assert (await scenario.handle.result())["status"] == "active"
        assert await query_store("SELECT state FROM accounts") == [{"state": "closed"}]
        assert await query_store("SELECT * FROM account_users") == []
        for person in EVERYONE:
            [email] = [each for each in mail_server.emails if is_closed_email(each, person)]
            assert "> The company asked us to." in text_of(email)
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)


def is_closed_email(email: Any, to: str) -> bool:
    return (email["X-Smart-Account-Mail"], email["To"]) == ("closed", to)


async def test_first_closing_counts(scenario: Scenario, mail_server: MailServer) -> None:
    async with scenario.worker():
        request_id = await start_active(scenario)
        for _ in range(2):
            closed = await scenario.client.close(request_id, CLOSING)
            assert closed.message == ActionMessage.CLOSED
            await closing_is_over(scenario, request_id)
        first = await scenario.stored()
        other = CLOSING.model_copy(update={"reason": "Fraud."})
        with pytest.raises(Rejected, match=r"already closed at .* for another reason"):
            await scenario.client.close(request_id, other)
        await closing_is_over(scenario, request_id)
        assert await scenario.stored() == first
    assert mail_server.kinds().count("closed") == len(EVERYONE)


async def test_only_an_active_account_can_be_closed(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        request_id = scenario.started.request_id
        for id_ in (request_id, "unknown"):
            with pytest.raises(Rejected, match="no active account"):
                await scenario.client.close(id_, CLOSING)
        await scenario.accept()
        await scenario.until_closed()
        other = CLOSING.model_copy(update={"account_domain": "other.example"})
        with pytest.raises(Rejected, match="no active account"):
            await scenario.client.close(request_id, other)
        assert (await scenario.stored()).closed_at is None
    assert "closed" not in mail_server.kinds()


async def test_emails_that_have_not_left_are_dropped(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await mail_server.stop()
        await scenario.accept()
        await scenario.until(Status.ACTIVE)
        request_id = scenario.started.request_id
        remaining = await scenario.env.client.start_workflow(  # as after an hour
            REMAINING_EMAILS_TYPE,
            SendEmails(
                request_id=request_id,
                emails=(Email(kind=EmailKind.WELCOME, to=Addressee.CUSTOMER),),
            ),
            id=f"smart-account-mails-{request_id}",
            task_queue=TASK_QUEUE,
        )
        for _ in range(2):  # the second one finds the workflow of the first
            closed = await scenario.client.close(request_id, CLOSING)
            assert closed.message == ActionMessage.CLOSED
        await mail_server.start()
        async with asyncio.timeout(60):
            await closing_is_over(scenario, request_id)
            await remaining.result()
            await scenario.handle.result()
    assert sorted(mail_server.kinds()) == ["activation", *["closed"] * 3, "request-received"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"by": {"role": "requester", "subject": "pat"}}, "closing.by"),
        ({"by": {"role": "operator", "subject": ""}}, "closing.by.subject"),
        ({"reason": " "}, "closing.reason"),
        ({"note": "x"}, "closing.note"),
    ],
)
async def test_invalid_closing_of_another_client_fails(
    scenario: Scenario, changes: dict[str, Any], field: str
) -> None:
    async with scenario.worker():
        request_id = await start_active(scenario)
        closing = CLOSING.model_dump(mode="json") | changes
        with pytest.raises(WorkflowFailureError) as failed:
            await scenario.env.client.execute_workflow(
                REMAINING_EMAILS_TYPE,
                {"request_id": request_id, "emails": [], "closing": closing},
                id=closing_id(request_id),
                task_queue=TASK_QUEUE,
            )
        assert isinstance(failed.value.cause, ApplicationError)
        assert failed.value.cause.type == INVALID_REQUEST
        assert failed.value.cause.message.startswith(f"{field}: ")
        assert (await scenario.stored()).closed_at is None


async def test_id_of_a_closing_belongs_to_its_request(scenario: Scenario) -> None:
    async with scenario.worker():
        squatter = await scenario.env.client.start_workflow(
            REMAINING_EMAILS_TYPE,
            {"request_id": "another", "emails": []},
            id=closing_id("one"),
            task_queue=TASK_QUEUE,
        )
        with pytest.raises(WorkflowFailureError) as failed:
            await squatter.result()
    assert "does not belong to the workflow id" in str(failed.value.cause)
