"""The limits: open requests per customer, and requests per requester within an hour."""

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.errors import Rejected
from smart_accounts.store.limits import Limits
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, MINUTE, REQUESTER, Scenario


async def test_customer_with_too_many_open_requests(
    scenario: Scenario, mail_server: MailServer, limits: Limits
) -> None:
    async with scenario.worker():
        for number in range(limits.open_per_customer):
            await scenario.start(account_domain=f"acme-{number}.example")
            await scenario.until(Status.PENDING, sent=2)
        before = len(mail_server.emails)
        await scenario.start(customer_email="ADA@acme.example")
        result = await scenario.handle.result()
        assert result["status"] == "rejected"
        assert "already has 5 open requests" in result["reason"]
        [rejection] = mail_server.emails[before:]
        assert (rejection["X-Smart-Account-Mail"], rejection["To"]) == ("rejected", REQUESTER)

        await scenario.client.decline("smart-account-acme-0.example")
        await scenario.env.client.get_workflow_handle("smart-account-acme-0.example").result()
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
        await scenario.start(customer_email="cy@other.example", account_domain="other.example")
        await scenario.until(Status.PENDING, sent=2)
        with pytest.raises(Rejected, match="already has 5 open requests"):
            await scenario.replace_approver(CUSTOMER)
        assert (await scenario.status_as_stored()).emails[0].recipient == "cy@other.example"


async def test_requester_who_starts_too_many_in_an_hour(
    scenario: Scenario, mail_server: MailServer, limits: Limits
) -> None:
    async with scenario.worker():
        for number in range(limits.starts_per_requester_per_hour):
            customer = f"ada@acme-{number}.example"
            await scenario.start(account_domain=f"acme-{number}.example", customer_email=customer)
            await scenario.until(Status.PENDING, sent=2)
        await scenario.start()
        result = await scenario.handle.result()
        assert result["status"] == "rejected"
        assert "made 7 requests within an hour" in result["reason"]
        assert not mail_server.kinds(CUSTOMER)
        await scenario.env.sleep(61 * MINUTE)
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)
