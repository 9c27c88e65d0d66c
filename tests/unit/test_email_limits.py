"""The activity ``send_emails`` when a limit of emails is reached."""

from datetime import timedelta

import pytest
from temporalio.exceptions import ApplicationError

from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.store.store import AccountStore
from tests.support.emails import ACTIVATION, REMINDER, REQUEST_RECEIVED
from tests.support.limits import new_limits
from tests.support.mail_server import MailServer
from tests.support.sending import NOW, send, send_attempt
from tests.support.store import Query


async def test_eleventh_email_to_a_mailbox_waits_for_the_next_day(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer, query_store: Query
) -> None:
    for number in range(2, 12):
        reminder = REMINDER.model_copy(update={"number": number})
        await query_store(f"UPDATE requests SET customer_email = 'ada+{number}@acme.example'")
        assert not (await pending.emails.begin(send_attempt(reminder))).outcome
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, ACTIVATION)
    assert caught.value.type == "EmailLimitReached"
    assert caught.value.next_retry_delay
    assert timedelta(hours=23) < caught.value.next_retry_delay <= timedelta(days=1)
    assert not mail_server.emails
    assert await send(pending, sender, REQUEST_RECEIVED), "the requester's own emails do not count"


async def test_emails_of_a_requester_wait_for_the_next_day(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    limits = new_limits(emails_per_requester_per_day=2)
    await send(pending, sender, ACTIVATION, limits=limits)
    await send(pending, sender, REMINDER, limits=limits)
    second = REMINDER.model_copy(update={"number": 2})
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, second, limits=limits)
    assert caught.value.type == "EmailLimitReached"
    assert len(mail_server.emails) == 2


async def test_limit_holds_a_request_no_longer_than_an_outage(
    pending: AccountStore, sender: SmtpSender
) -> None:
    limits = new_limits(emails_per_requester_per_day=1)
    await send(pending, sender, ACTIVATION, limits=limits)
    until = NOW + timedelta(minutes=50)
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, REMINDER, limits=limits, until=until)
    assert caught.value.next_retry_delay
    assert caught.value.next_retry_delay <= timedelta(minutes=50)


async def test_limit_of_one_mailbox_delays_no_other_email(
    pending: AccountStore, sender: SmtpSender, mail_server: MailServer
) -> None:
    limits = new_limits(emails_per_mailbox_per_day=1)
    await send(pending, sender, ACTIVATION, limits=limits)
    request = await pending.requests.find("one")
    assert request
    mail_server.refusals[request.requester_email] = "451 later"
    with pytest.raises(ApplicationError) as caught:
        await send(pending, sender, REMINDER, REQUEST_RECEIVED, limits=limits)
    assert caught.value.type == "RefusedTemporarily"
    assert caught.value.next_retry_delay is None
