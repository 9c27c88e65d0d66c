"""Resend, replace the approver, withdraw: what each answers and what it changes."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from smart_accounts.contract.field_errors import BadInput
from smart_accounts.contract.messages import NewApprover, Status, Withdrawal
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.tokens import token_hash

MINUTE = timedelta(minutes=1)
CUSTOMER, REQUESTER, OTHER = "ada@acme.example", "pat@partner.example", "cy@acme.example"


@pytest.fixture
def resend(story: Any) -> Any:
    return lambda: story.client.resend(story.started.workflow_id)


@pytest.fixture
def replace(story: Any) -> Any:
    return lambda address: story.client.replace_approver(
        story.started.workflow_id, NewApprover(customer_email=address)
    )


@pytest.fixture
def withdraw(story: Any) -> Any:
    return lambda reason=None: story.client.withdraw(
        story.started.workflow_id, Withdrawal(reason=reason)
    )


async def link_of(story: Any, mail: Any, link_in: Any) -> Any:
    found = await story.store.find_link(token_hash(link_in(mail).rpartition("/")[2]))
    assert found
    return found


async def test_resend_gives_a_new_link_and_kills_the_old_one(
    story: Any, mail_server: Any, link_in: Any, resend: Any
) -> None:
    async with story.worker():
        await story.start()
        before = await story.until(Status.PENDING, sent=2)
        await story.env.sleep(6 * MINUTE)
        answer = await resend()
        assert answer.status == Status.PENDING
        assert "new activation email is on its way" in answer.message
        after = await story.until(Status.PENDING, sent=3)
    assert after.deadline == before.deadline
    first, second = [mail for mail in mail_server.mails if mail["To"] == CUSTOMER]
    assert first["Message-ID"] != second["Message-ID"]
    assert (await link_of(story, first, link_in)).is_superseded
    assert not (await link_of(story, second, link_in)).is_superseded


async def test_resend_has_a_cool_down_and_a_daily_limit(
    story: Any, mail_server: Any, resend: Any
) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        with pytest.raises(Rejected, match="has just been sent; try again at 20"):
            await resend()
        for number in range(5):
            await story.env.sleep(6 * MINUTE)
            await resend()
            await story.until(Status.PENDING, sent=3 + number)
        await story.env.sleep(6 * MINUTE)
        with pytest.raises(Rejected, match="Too many activation emails in a day"):
            await resend()
        await story.env.sleep(24 * 60 * MINUTE)
        await resend()
        await story.until(Status.PENDING, sent=8)
    assert mail_server.kinds(CUSTOMER) == ["activation"] * 7


async def test_short_window_has_a_short_cool_down(story: Any, resend: Any) -> None:
    async with story.worker():
        await story.start(acceptance_window=timedelta(hours=2))
        await story.until(Status.PENDING, sent=2)
        with pytest.raises(Rejected, match="has just been sent"):
            await resend()
        await story.env.sleep(timedelta(seconds=72))
        await resend()
        await story.until(Status.PENDING, sent=3)


async def test_two_resends_at_once_are_one(story: Any, mail_server: Any, resend: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await story.env.sleep(6 * MINUTE)
        answers = await asyncio.gather(resend(), resend(), return_exceptions=True)
        assert sorted(isinstance(answer, Rejected) for answer in answers) == [False, True]
        await story.until(Status.PENDING, sent=3)
    assert mail_server.kinds(CUSTOMER) == ["activation"] * 2


async def test_resend_while_the_first_email_waits_replaces_it(
    story: Any, mail_server: Any, resend: Any, keep: Any
) -> None:
    await mail_server.down()
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING)
        await story.env.sleep(6 * MINUTE)
        await resend()
        await mail_server.up()
        await story.until(Status.PENDING, sent=2)
        keep("resent", await story.handle.fetch_history())
    assert sorted(mail_server.kinds()) == ["activation", "request-received"]
    [activation] = [mail for mail in mail_server.mails if mail["To"] == CUSTOMER]
    assert "activation.customer.2@" in activation["Message-ID"]


async def test_replacing_the_approver_asks_another_person(
    story: Any, mail_server: Any, link_in: Any, replace: Any, ask: Any, keep: Any
) -> None:
    async with story.worker():
        await story.start(user_emails=["bo@acme.example", OTHER])
        before = await story.until(Status.PENDING, sent=2)
        answer = await replace(OTHER)
        assert "new approver" in answer.message
        after = await story.until(Status.PENDING, sent=3)
        assert after.deadline == before.deadline
        [old, new] = [mail for mail in after.emails if mail.kind == "activation"]
        assert (old.recipient, new.recipient) == (CUSTOMER, OTHER)
        first = await mail_server.wait_for("activation", CUSTOMER)
        second = await mail_server.wait_for("activation", OTHER)
        assert (await link_of(story, first, link_in)).is_superseded
        assert not (await link_of(story, second, link_in)).is_superseded
        await story.client.accept(story.started.workflow_id, accepted_by=OTHER)
        await story.handle.result()
        keep("accepted-by-a-new-approver", await story.handle.fetch_history())
    assert await ask("SELECT email, role FROM account_users ORDER BY email") == [
        {"email": "bo@acme.example", "role": "user"},
        {"email": OTHER, "role": "approver and administrator"},
    ]
    assert mail_server.kinds(OTHER) == ["activation", "welcome"]
    assert mail_server.kinds(CUSTOMER) == ["activation"]


async def test_reminders_go_to_the_new_approver_with_the_new_link(
    story: Any, mail_server: Any, link_in: Any, replace: Any
) -> None:
    async with story.worker():
        await story.start(reminders=["P1D"])
        await story.until(Status.PENDING, sent=2)
        await replace(OTHER)
        await story.until(Status.PENDING, sent=3)
        await story.env.sleep(timedelta(days=1))
        reminder = await mail_server.wait_for("reminder")
    assert reminder["To"] == OTHER
    assert link_in(reminder) == link_in(await mail_server.wait_for("activation", OTHER))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("PAT@partner.example", "must differ from the requester's address"),
        (CUSTOMER, "the approver's address already"),
    ],
)
async def test_replacing_under_the_same_rules(
    story: Any, mail_server: Any, replace: Any, address: str, message: str
) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        with pytest.raises((Rejected, BadInput), match=message):
            await replace(address)
        assert (await story.store.find_request(story.started.request_id)).link_ordinal == 1
    assert len(mail_server.mails) == 2


async def test_new_approver_elsewhere_is_marked(story: Any, replace: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        await replace("cy@elsewhere.example")
        marked = await story.until(Status.PENDING, sent=3)
        assert marked.needs_attention
        assert marked == await story.agreed()


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
async def test_bad_argument_is_refused_in_words(
    story: Any, arguments: tuple[str, list[Any]]
) -> None:
    name, args = arguments
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await story.handle.execute_update(name, args=args)
        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.type == "InvalidRequest"
        assert (await story.status()).status == Status.PENDING
        await story.client.accept(story.started.workflow_id)
        assert (await story.handle.result())["status"] == "active"


async def test_withdrawal(story: Any, mail_server: Any, withdraw: Any, ask: Any, keep: Any) -> None:
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        answer = await withdraw("The customer went elsewhere.")
        assert answer.status == Status.WITHDRAWN
        assert (await story.handle.result())["status"] == "withdrawn"
        keep("withdrawn", await story.handle.fetch_history())
        withdrawn = await story.agreed()
        assert withdrawn.reason == "The customer went elsewhere."
        assert withdrawn.decided_by == "requester"
        told = await mail_server.wait_for("withdrawn", CUSTOMER)
        assert "went elsewhere" not in str(told)
        with pytest.raises(NotFound):
            await withdraw()
        assert await ask("SELECT state FROM accounts") == [{"state": "closed"}]
        await story.start()
        await story.until(Status.PENDING)


@pytest.mark.parametrize("action", ["resend", "replace", "withdraw"])
async def test_after_a_decision_each_says_why_not(
    story: Any, mail_server: Any, request: Any, action: str
) -> None:
    act = request.getfixturevalue(action)
    async with story.worker():
        await story.start()
        await story.until(Status.PENDING, sent=2)
        mail_server.refusals = dict.fromkeys((CUSTOMER, REQUESTER), "451 later")
        await story.client.accept(story.started.workflow_id)
        await story.until(Status.ACTIVE)
        with pytest.raises(Rejected, match="Too late: the request is active already"):
            await (act(OTHER) if action == "replace" else act())
        mail_server.refusals = {}
        assert (await story.handle.result())["status"] == "active"
