"""The withdrawal of a request, by its requester or an operator."""

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.errors import NotFound, Rejected
from tests.support.histories import Keep
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, Scenario
from tests.support.store import Query
from workflows import smart_account_request


async def test_withdrawal(
    scenario: Scenario, mail_server: MailServer, query_store: Query, keep: Keep
) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        result = await scenario.withdraw("The customer went elsewhere.")
        assert result.status == Status.WITHDRAWN
        assert (await scenario.handle.result())["status"] == "withdrawn"
        keep("withdrawn", await scenario.handle.fetch_history())
        withdrawn = await scenario.status_as_stored()
        assert withdrawn.reason == "The customer went elsewhere."
        assert withdrawn.decided_by == "requester"
        email = await mail_server.wait_for("withdrawn", CUSTOMER)
        assert "went elsewhere" not in str(email)
        assert (await scenario.withdraw("Another reason.")).is_repeat
        assert (await scenario.status_as_stored()) == withdrawn
        for action in (scenario.withdraw_as_operator, scenario.resend):
            with pytest.raises(Rejected, match="Too late: the request is already withdrawn"):
                await action()
        assert await query_store("SELECT state FROM accounts") == [{"state": "closed"}]
        await scenario.start()
        await scenario.until(Status.PENDING)


async def test_withdrawal_again_while_the_first_is_carried_out(
    scenario: Scenario, mail_server: MailServer, monkeypatch: pytest.MonkeyPatch, keep: Keep
) -> None:
    monkeypatch.setattr(smart_account_request, "MAX_REPEATS", 2)
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        mail_server.refusals = {CUSTOMER: "451 later"}
        await scenario.withdraw_as_operator("Fraud.")
        for _ in range(2):
            repeat = await scenario.withdraw_as_operator("A second operator's reason.")
            assert (repeat.status, repeat.is_repeat) == (Status.WITHDRAWN, True)
        too_late = "Too late: the request is already withdrawn"
        with pytest.raises(Rejected, match=too_late):  # Temporal limits the updates of a workflow
            await scenario.withdraw_as_operator()
        with pytest.raises(Rejected, match=too_late):
            await scenario.withdraw()
        status = await scenario.status()
        assert (status.reason, status.decided_by) == ("Fraud.", "operator")
        mail_server.refusals = {}
        assert (await scenario.handle.result())["status"] == "withdrawn"
        keep("withdrawn-again", await scenario.handle.fetch_history())
    assert mail_server.kinds(CUSTOMER) == ["activation", "withdrawn"]


async def test_terminated_request_was_not_withdrawn(scenario: Scenario) -> None:
    async with scenario.worker():
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.handle.terminate()
        with pytest.raises(NotFound, match="the request has ended"):
            await scenario.withdraw()
