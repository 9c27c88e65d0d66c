"""What the activity ``deliver_webhooks`` sends, on the real store, receiver and mail server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import webhooks
from activities.webhooks import AT_ONCE, EMAIL_RETRY, SHORTEST_PAUSE, WebhookActivities
from smart_accounts.contract.messages import EmailKind
from smart_accounts.contract.webhooks import DeliverWebhooks, DeliveryState, EndpointState
from smart_accounts.mail.compose import Composer
from smart_accounts.settings import Settings
from smart_accounts.store.deliveries import DISABLE_AFTER
from smart_accounts.store.outbox import TRY_FOR
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Endpoint
from smart_accounts.webhooks import signing
from smart_accounts.webhooks.sender import WebhookSender
from tests.support.emails import SITE
from tests.support.keys import KEY, NEW_KEY
from tests.support.mail_server import MailServer
from tests.support.metrics import RecordedMetrics
from tests.support.sending import NOW, sender_to
from tests.support.subscriber import FAIL, HANG, TAKE, Subscriber

MINUTE = timedelta(minutes=1)

Deliver = Callable[..., Awaitable[datetime | None]]
"""Runs the activity at a time. Returns when the next delivery is due."""


@pytest.fixture
async def activities(
    store: AccountStore, mail_server: MailServer
) -> AsyncIterator[WebhookActivities]:
    settings = Settings(
        _env_file=None,
        public_url="http://127.0.0.1:8000",
        secret_keys=KEY,
        smtp_hostname="127.0.0.1",
        mail_from="no-reply@accounts.example",
    )
    mail = sender_to(mail_server)
    yield WebhookActivities(store, WebhookSender(), Composer(SITE), mail, settings)
    await mail.aclose()


@pytest.fixture
def deliver(activities: WebhookActivities, endpoint: Endpoint, metrics: RecordedMetrics) -> Deliver:
    async def run(at: datetime = NOW) -> datetime | None:
        environment = ActivityEnvironment()
        environment.metric_meter = metrics.meter
        environment.info = replace(environment.info, started_time=at)
        given = DeliverWebhooks(endpoint_id=endpoint.id)
        delivered = await environment.run(activities.deliver_webhooks, given)
        return delivered.next_at

    return run


@pytest.fixture
async def endpoint(store: AccountStore, subscriber: Subscriber) -> Endpoint:
    return await subscriber.register(store, now=NOW)


async def test_backlog_of_a_dead_endpoint_waits(
    store: AccountStore, subscriber: Subscriber, endpoint: Endpoint, deliver: Deliver
) -> None:
    for _ in range(4 * AT_ONCE):
        await store.webhooks.ping(endpoint.id, NOW)
    subscriber.reply = FAIL
    next_at = await deliver()
    assert len(subscriber.received) == AT_ONCE
    assert next_at
    assert next_at >= NOW + SHORTEST_PAUSE
    later = NOW + timedelta(hours=8)
    next_at = await deliver(later)
    assert next_at
    assert next_at >= later + timedelta(hours=1)
    subscriber.reply = TAKE
    assert await deliver(later) is None
    assert len(subscriber.taken()) == 4 * AT_ONCE


async def test_old_events_of_a_dead_endpoint_fail_once_each_was_tried(
    store: AccountStore, subscriber: Subscriber, endpoint: Endpoint, deliver: Deliver
) -> None:
    """A turn tries five events, first those with the fewest tries."""
    tried = {await store.webhooks.ping(endpoint.id, NOW) for _ in range(AT_ONCE)}
    subscriber.reply = FAIL
    await deliver()
    for _ in range(AT_ONCE + 1):
        await store.webhooks.ping(endpoint.id, NOW)
    end = NOW + TRY_FOR
    assert await deliver(end)
    found = {each.id: each for each in await store.webhooks.deliveries(endpoint.id)}
    [waiting] = [each for each in found.values() if each.state is not DeliveryState.FAILED]
    assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 0)
    assert all(found[each].attempts == 1 and found[each].status_code == 500 for each in tried)
    again = tried.pop()
    await store.webhooks.send_again(endpoint.id, again, end)
    subscriber.reply = TAKE
    assert await deliver(end) is None
    taken = {each.id for each in subscriber.taken()}
    assert taken == {waiting.event_id, found[again].event_id}


async def test_hundred_endpoints_that_hang_leave_slots_for_emails(
    store: AccountStore,
    subscriber: Subscriber,
    endpoint: Endpoint,
    deliver: Deliver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhooks, "MAX_ENDPOINTS", 1)
    await store.webhooks.ping(endpoint.id, NOW)
    subscriber.reply = HANG
    hanging = asyncio.ensure_future(deliver())
    await subscriber.wait_for(1, reply=HANG)
    with pytest.raises(ApplicationError, match="many other endpoints") as busy:
        await deliver()
    assert busy.value.next_retry_delay
    hanging.cancel()
    await asyncio.wait([hanging])
    subscriber.reply = TAKE
    assert await deliver() is None
    assert len(subscriber.taken()) == 1


async def test_what_is_counted(
    store: AccountStore,
    subscriber: Subscriber,
    endpoint: Endpoint,
    deliver: Deliver,
    mail_server: MailServer,
    metrics: RecordedMetrics,
) -> None:
    await store.webhooks.ping(endpoint.id, NOW)
    subscriber.reply = FAIL
    await deliver()
    assert metrics.read() == [("smart_accounts_webhooks failed", 1)]
    subscriber.reply = TAKE
    await deliver(NOW + MINUTE)
    assert metrics.read() == [("smart_accounts_webhooks delivered", 1)]


async def test_owner_whose_address_is_refused_is_not_told_again(
    store: AccountStore,
    subscriber: Subscriber,
    endpoint: Endpoint,
    deliver: Deliver,
    mail_server: MailServer,
    metrics: RecordedMetrics,
) -> None:
    subscriber.reply = FAIL
    await fail_for_five_days(store, endpoint, deliver)
    mail_server.refusals = {endpoint.owner_email: "450 4.2.0 greylisted"}
    disabled_at = NOW + DISABLE_AFTER + MINUTE
    next_at = await deliver(disabled_at)
    assert next_at
    assert disabled_at + EMAIL_RETRY <= next_at < disabled_at + EMAIL_RETRY + MINUTE
    found = await store.webhooks.find(endpoint.id)
    assert found
    assert (found.state, found.owner_told_at) == (EndpointState.DISABLED, None)
    mail_server.refusals = {endpoint.owner_email: "550 5.1.1 no such user"}
    assert ("smart_accounts_webhook_endpoints_disabled", 1) in metrics.read()
    for _ in range(2):
        assert await deliver(disabled_at + EMAIL_RETRY) is None
    assert metrics.read() == [(f"smart_accounts_emails {EmailKind.WEBHOOK_DISABLED} failed", 1)]


async def test_removed_key_is_a_failure_of_the_endpoint(
    store: AccountStore, subscriber: Subscriber, endpoint: Endpoint, deliver: Deliver
) -> None:
    sealed = signing.seal(signing.new_secret(), [NEW_KEY])
    await store.webhooks.rotate_secret(endpoint.id, sealed, NOW)
    await store.webhooks.ping(endpoint.id, NOW)
    assert await deliver()
    [found] = await store.webhooks.deliveries(endpoint.id)
    assert found.error
    assert "Rotate the secret" in found.error
    assert not subscriber.received


async def fail_for_five_days(store: AccountStore, endpoint: Endpoint, deliver: Deliver) -> None:
    for hours in range(0, 120, 20):
        at = NOW + timedelta(hours=hours)
        await store.webhooks.ping(endpoint.id, at)
        await deliver(at)
    await store.webhooks.ping(endpoint.id, NOW + DISABLE_AFTER + MINUTE)
