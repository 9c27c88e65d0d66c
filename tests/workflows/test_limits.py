"""The limits of one requester: open requests, starts, and emails to one mailbox."""

from datetime import datetime, timedelta

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.errors import Rejected
from smart_accounts.settings import Settings
from smart_accounts.store.limits import Limits
from tests.support.mail_server import MailServer
from tests.support.scenario import CUSTOMER, DAY, MINUTE, USER, Scenario


async def rejected(scenario: Scenario, reason: str) -> datetime:
    """Check that a limit rejects the request. Returns when to try again."""
    result = await scenario.handle.result()
    assert result["status"] == "rejected"
    assert reason in result["reason"]
    status = await scenario.status_as_stored()
    assert (status.reason, status.emails) == (result["reason"], ())
    assert status.retry_at
    assert result["retry_at"]
    return status.retry_at


async def test_too_many_open_requests_for_a_customer(
    scenario: Scenario, mail_server: MailServer, limits: Limits
) -> None:
    async with scenario.worker():
        for number in range(limits.open_per_customer):
            await scenario.start(account_domain=f"part-{number}.acme.example", user_emails=[])
            await scenario.until(Status.PENDING, sent=2)
        first = (await scenario.status()).requested_at
        before = len(mail_server.emails)
        await scenario.start(customer_email="ADA+6@acme.example")
        retry_at = await rejected(scenario, "already has 5 open requests for this customer")
        assert abs(retry_at - first - 90 * DAY) < MINUTE, "when the first of them lapses"
        assert len(mail_server.emails) == before, "a limit sends no email"

        other = {"email": "kim@reseller.example", "name": "Kim Roy", "company": "Reseller GmbH"}
        await scenario.start(requester=other)
        await scenario.until(Status.PENDING, sent=2)
        await scenario.withdraw()
        await scenario.handle.result()

        await scenario.client.decline("smart-account-part-0.acme.example")
        handle = scenario.env.client.get_workflow_handle("smart-account-part-0.acme.example")
        await handle.result()
        await scenario.start(customer_email="cy@acme.example", account_domain="other.acme.example")
        await scenario.until(Status.PENDING, sent=2)
        await scenario.env.sleep(DAY)  # for the limit of emails to one mailbox
        await scenario.replace_approver(CUSTOMER)
        await scenario.until(Status.PENDING, sent=3)


async def test_replacing_the_approver_obeys_the_limit(scenario: Scenario, limits: Limits) -> None:
    async with scenario.worker():
        for number in range(limits.open_per_customer):
            await scenario.start(account_domain=f"part-{number}.acme.example", user_emails=[])
            await scenario.until(Status.PENDING, sent=2)
        await scenario.start(customer_email="cy@acme.example")
        await scenario.until(Status.PENDING, sent=2)
        with pytest.raises(Rejected, match="already has 5 open requests for this customer"):
            await scenario.replace_approver(CUSTOMER)
        assert (await scenario.status_as_stored()).emails[0].recipient == "cy@acme.example"


async def test_too_many_starts_within_an_hour(
    scenario: Scenario, mail_server: MailServer, limits: Limits
) -> None:
    async with scenario.worker():
        for number in range(limits.starts_per_requester_per_hour):
            customer = f"ada@acme-{number}.example"
            await scenario.start(
                account_domain=f"acme-{number}.example", customer_email=customer, user_emails=[]
            )
            await scenario.until(Status.PENDING, sent=2)
        await scenario.start()
        retry_at = await rejected(scenario, "made 7 requests within an hour")
        assert not mail_server.kinds(CUSTOMER)
        await scenario.sleep_until(retry_at + timedelta(seconds=1))
        await scenario.start()
        await scenario.until(Status.PENDING, sent=2)


class TestOpenRequests:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_open_per_requester": 2})

    async def test_too_many_open_requests(self, scenario: Scenario) -> None:
        async with scenario.worker(cached=10):
            for window in ("P2D", "P9D"):
                domain = f"{window.lower()}.example"
                await scenario.start(
                    account_domain=domain,
                    customer_email=f"ada@{domain}",
                    acceptance_window=window,
                    reminders=[],
                )
                await scenario.until(Status.PENDING, sent=2)
            await scenario.start()
            retry_at = await rejected(scenario, "already has 2 open requests, which")
            await scenario.sleep_until(retry_at + timedelta(seconds=1))
            await scenario.start()
            await scenario.until(Status.PENDING, sent=2)


class TestEmails:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"max_emails_per_requester_per_day": 12})

    async def test_withdrawn_requests_count_for_a_day(
        self, scenario: Scenario, mail_server: MailServer
    ) -> None:
        async with scenario.worker():
            for _ in range(5):
                await scenario.start(user_emails=[])
                await scenario.until(Status.PENDING, sent=2)
                await scenario.withdraw()
                await scenario.handle.result()
            await scenario.start(user_emails=[])
            retry_at = await rejected(scenario, "sent 10 emails to one mailbox within a day")
            assert mail_server.kinds(CUSTOMER) == ["activation", "withdrawn"] * 5
            await scenario.sleep_until(retry_at + timedelta(seconds=1))
            await scenario.start(user_emails=[])
            await scenario.until(Status.PENDING, sent=2)

    async def test_resending_obeys_the_limit_of_a_mailbox(
        self, scenario: Scenario, mail_server: MailServer
    ) -> None:
        async with scenario.worker():
            for number, resends in enumerate((5, 3)):
                domain = f"part-{number}.acme.example"
                await scenario.start(account_domain=domain, user_emails=[])
                for count in range(resends):
                    await scenario.until(Status.PENDING, sent=2 + count)
                    await scenario.env.sleep(6 * MINUTE)
                    await scenario.resend()
                await scenario.until(Status.PENDING, sent=2 + resends)
            await scenario.env.sleep(6 * MINUTE)
            with pytest.raises(Rejected, match="10 emails to one mailbox"):
                await scenario.resend()
            assert mail_server.kinds(CUSTOMER) == ["activation"] * 10
            with pytest.raises(Rejected, match="10 emails to one mailbox"):
                await scenario.replace_approver("ada+x@acme.example")

    async def test_all_emails_of_a_requester(self, scenario: Scenario) -> None:
        users = [f"user-{number}@acme.example" for number in range(10)]
        async with scenario.worker():
            await scenario.start(user_emails=users)
            await scenario.until(Status.PENDING, sent=2)
            await scenario.start(account_domain="other.example", customer_email="ada@other.example")
            await rejected(scenario, "sent 12 emails within a day")


async def test_added_users_of_several_requests_share_the_limit_of_their_mailbox(
    scenario: Scenario, mail_server: MailServer
) -> None:
    async with scenario.worker():
        for number in range(10):
            if number == 5:
                await scenario.env.sleep(61 * MINUTE)  # the limit of starts per hour
            await scenario.start(
                account_domain=f"acme-{number}.example",
                customer_email=f"ada@acme-{number}.example",
                user_emails=[f"bo+{number}@acme.example"],
            )
            await scenario.until(Status.PENDING, sent=2)
        await scenario.start(user_emails=[USER])
        await rejected(scenario, "sent 10 emails to one mailbox")
        assert "access-granted" not in mail_server.kinds()
