"""The requester's actions: resend, replace the approver, and withdraw."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from smart_accounts.contract.actions import ActionResult
from smart_accounts.contract.field_errors import BadInput
from smart_accounts.contract.messages import Status
from smart_accounts.errors import Rejected
from smart_accounts.tokens import token_hash
from tests.support.histories import Keep
from tests.support.mail_server import LinkIn, MailServer
from tests.support.scenario import CUSTOMER, DAY, MINUTE, OTHER, REQUESTER, USER, Scenario
from tests.support.store import Query
from workflows import smart_account_request


async def is_superseded(scenario: Scenario, email: EmailMessage, link_in: LinkIn) -> bool:
    link = await scenario.store.links.find(token_hash(link_in(email).rpartition("/")[2]))
    assert link
    return link.state(await scenario.now()) == "superseded"


async def test_resend_replaces_the_link(
    scenario: Scenario, mail_server: MailServer, link_in: LinkIn
) -> None:
    async with scenario.worker():
        await scenario.start()
        before = await scenario.until(Status.PENDING, sent=2)
        await scenario.env.sleep(6 * MINUTE)
        result = await scenario.resend()
        assert result.status == Status.PENDING
        assert "new activation email is on its way" in result.message
        after = await scenario.until(Status.PENDING, sent=3)
    assert after.deadline == before.deadline
    first, second = [email for email in mail_server.emails if email["To"] == CUSTOMER]
    assert first["Message-ID"] != second["Message-ID"]
    assert await is_superseded(scenario, first, link_in)
    assert not await is_superseded(scenario, second, link_in)


async def test_resend_has_a_cool_down_and_a_daily_limit(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        with pytest.raises(Rejected, match="has just been sent; try again at 20"):
            await scenario.resend()
        for number in range(5):
            await scenario.env.sleep(6 * MINUTE)
            await scenario.resend()
            await scenario.until(Status.PENDING, sent=3 + number)
        await scenario.env.sleep(6 * MINUTE)
        with pytest.raises(Rejected, match="Too many activation emails in a day"):
            await scenario.resend()
        await scenario.env.sleep(DAY)
        await scenario.resend()
        await scenario.until(Status.PENDING, sent=8)
    assert mail_server.kinds(CUSTOMER) == ["activation"] * 7


async def test_short_window_has_a_short_cool_down(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start(acceptance_window=timedelta(hours=2))
        await scenario.until(Status.PENDING, sent=2)
        with pytest.raises(Rejected, match="has just been sent"):
            await scenario.resend()
        await scenario.env.sleep(timedelta(seconds=72))
        await scenario.resend()
        await scenario.until(Status.PENDING, sent=3)


async def test_two_resends_at_once_send_one_email(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.env.sleep(6 * MINUTE)
        results = await asyncio.gather(scenario.resend(), scenario.resend(), return_exceptions=True)
        assert sorted(isinstance(result, Rejected) for result in results) == [False, True]
        await scenario.until(Status.PENDING, sent=3)
    assert mail_server.kinds(CUSTOMER) == ["activation"] * 2


async def test_resend_replaces_an_unsent_activation_email(
    scenario: Scenario, mail_server: MailServer, keep: Keep
) -> None:
    await mail_server.stop()
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING)
        await scenario.env.sleep(6 * MINUTE)
        await scenario.resend()
        await mail_server.start()
        await scenario.until(Status.PENDING, sent=2)
        keep("resent-with-local-emails", await scenario.handle.fetch_history())
    assert sorted(mail_server.kinds()) == ["activation", "request-received"]
    [activation] = [email for email in mail_server.emails if email["To"] == CUSTOMER]
    assert "activation.customer.2@" in activation["Message-ID"]


async def test_answers_through_a_superseded_link_do_not_count(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.replace_approver(OTHER)
        await scenario.until(Status.PENDING, sent=3)
        id_ = scenario.started.workflow_id
        await scenario.client.accept(id_, link=1, accepted_by=CUSTOMER)
        await scenario.client.decline(id_, link=1)
        assert (await scenario.status()).decided_at is None
        await scenario.client.accept(id_, link=2, accepted_by=OTHER)
        await scenario.handle.result()
        assert (await scenario.status()).decided_by == OTHER


async def test_new_approver_gets_a_link_and_accepts(
    scenario: Scenario, mail_server: MailServer, link_in: LinkIn, query_store: Query, keep: Keep
) -> None:
    async with scenario.worker():
        await scenario.start(user_emails=[USER, OTHER])
        before = await scenario.until(Status.PENDING, sent=2)
        result = await scenario.replace_approver(OTHER)
        assert "new approver" in result.message
        after = await scenario.until(Status.PENDING, sent=3)
        assert after.deadline == before.deadline
        [old, new] = [email for email in after.emails if email.kind == "activation"]
        assert (old.recipient, new.recipient) == (CUSTOMER, OTHER)
        first = await mail_server.wait_for("activation", CUSTOMER)
        second = await mail_server.wait_for("activation", OTHER)
        assert await is_superseded(scenario, first, link_in)
        assert not await is_superseded(scenario, second, link_in)
        await scenario.accept(OTHER)
        await scenario.handle.result()
        keep("accepted-by-a-new-approver", await scenario.handle.fetch_history())
    assert await query_store("SELECT email, role FROM account_users ORDER BY email") == [
        {"email": USER, "role": "user"},
        {"email": OTHER, "role": "approver and administrator"},
    ]
    assert mail_server.kinds(OTHER) == ["activation", "welcome"]
    assert mail_server.kinds(CUSTOMER) == ["activation"]


async def test_new_approver_gets_the_reminders(
    scenario: Scenario, mail_server: MailServer, link_in: LinkIn
) -> None:
    async with scenario.worker():
        await scenario.start(reminders=["P1D"])
        await scenario.until(Status.PENDING, sent=2)
        await scenario.replace_approver(OTHER)
        await scenario.until(Status.PENDING, sent=3)
        await scenario.env.sleep(DAY)
        reminder = await mail_server.wait_for("reminder")
    assert reminder["To"] == OTHER
    assert link_in(reminder) == link_in(await mail_server.wait_for("activation", OTHER))


async def test_requester_as_new_approver_is_rejected(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        with pytest.raises(BadInput, match="must differ from the requester's address"):
            await scenario.replace_approver("PAT@partner.example")
        assert (await scenario.stored()).link_ordinal == 1
    assert len(mail_server.emails) == 2


async def test_present_approver_again_changes_nothing(
    scenario: Scenario, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch, keep: Keep
) -> None:
    monkeypatch.setattr(smart_account_request, "MAX_REPEATS", 4)
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        assert (await scenario.replace_approver(CUSTOMER)).is_repeat
        results = await asyncio.gather(*(scenario.replace_approver(OTHER) for _ in range(2)))
        assert sorted(result.is_repeat for result in results) == [False, True]
        await scenario.until(Status.PENDING, sent=3)
        repeat = await scenario.replace_approver(f" {OTHER.replace('acme', 'ACME')}")
        assert repeat.message.startswith("This is already the approver's address.")
        await scenario.replace_approver(OTHER)
        with pytest.raises(Rejected, match="already the approver's address"):
            await scenario.replace_approver(OTHER)  # Temporal limits the updates of a workflow
        assert (await scenario.stored()).link_ordinal == 2
        result = await scenario.withdraw()
        assert not result.is_repeat
        await scenario.handle.result()
        keep("approver-named-again", await scenario.handle.fetch_history())
    assert mail_server.kinds(CUSTOMER) == ["activation"]
    assert mail_server.kinds(OTHER) == ["activation", "withdrawn"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("replace_approver", []),
        ("replace_approver", [None]),
        ("replace_approver", [{"customer_email": "cy"}]),
        ("replace_approver", [{"customer_email": OTHER}, 2]),
        ("withdraw", [{"reason": "\u202e"}]),
        ("withdraw", [3]),
        ("withdraw", [{}, {}]),
    ],
    ids=str,
)
async def test_bad_argument_is_rejected(
    scenario: Scenario, arguments: tuple[str, list[Any]]
) -> None:
    name, args = arguments
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await scenario.handle.execute_update(name, args=args)
        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.type == "InvalidRequest"
        assert (await scenario.status()).status == Status.PENDING
        await scenario.accept()
        assert (await scenario.handle.result())["status"] == "active"


@pytest.mark.parametrize("action", ["resend", "replace", "withdraw"])
async def test_action_after_a_decision_is_rejected(
    scenario: Scenario, mail_server: MailServer, action: str
) -> None:
    actions: dict[str, Callable[[], Awaitable[ActionResult]]] = {
        "resend": scenario.resend,
        "replace": lambda: scenario.replace_approver(OTHER),
        "withdraw": scenario.withdraw,
    }
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        mail_server.refusals = dict.fromkeys((CUSTOMER, REQUESTER), "451 later")
        await scenario.accept()
        await scenario.until(Status.ACTIVE)
        with pytest.raises(Rejected, match="Too late: the request is already active"):
            await actions[action]()
        mail_server.refusals = {}
        assert (await scenario.handle.result())["status"] == "active"
        with pytest.raises(Rejected, match="Too late: the request is already active"):
            await actions[action]()
