"""Deliver the events that wait for a webhook endpoint, and tell its owner if it is disabled.

If a worker is killed before it has recorded an attempt, the event is sent again, with the same
``webhook-id``.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.delivery import GIVE_UP_AFTER, Clock
from activities.emails import heartbeats, temporal_clock
from activities.measurements import count_email, email_not_sent
from smart_accounts.contract.messages import EmailKind
from smart_accounts.contract.webhooks import Delivered, DeliverWebhooks
from smart_accounts.mail.compose import Composer
from smart_accounts.mail.smtp import MailError, RefusedPermanently, SmtpSender
from smart_accounts.settings import Settings
from smart_accounts.store.store import AccountStore
from smart_accounts.store.webhook_records import Attempt, Delivery, Endpoint
from smart_accounts.temporal import metrics
from smart_accounts.temporal.metrics import WEBHOOKS, WEBHOOKS_DISABLED, WebhookOutcome
from smart_accounts.webhooks.addresses import address_rules
from smart_accounts.webhooks.sender import WebhookSender
from smart_accounts.webhooks.signing import SecretLost, sign, unseal

AT_ONCE = 5
"""How many events one endpoint gets at the same time. If it takes none of them, all must wait."""
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(hours=1)
MAX_ENDPOINTS = 100  # in one process; the other slots for activities are for the emails
BUSY_RETRY = timedelta(seconds=2)
LONGEST_TURN = timedelta(minutes=5)
EMAIL_RETRY = timedelta(hours=1)

_log = logging.getLogger(__name__)


class WebhookActivities:
    def __init__(
        self,
        store: AccountStore,
        sender: WebhookSender,
        composer: Composer,
        mail: SmtpSender,
        settings: Settings,
    ) -> None:
        self._store = store
        self._sender = sender
        self._composer = composer
        self._mail = mail
        self._settings = settings
        self._endpoints = 0

    @activity.defn
    async def deliver_webhooks(self, deliver: DeliverWebhooks) -> Delivered:
        """Send the events that are due to one endpoint.

        Raises:
            ApplicationError: This process delivers to too many endpoints. Temporal tries again.
        """
        if self._endpoints >= MAX_ENDPOINTS:
            raise ApplicationError(
                "This worker delivers to many other endpoints at the moment.",
                type="WebhooksBusy",
                next_retry_delay=BUSY_RETRY,
                category=ApplicationErrorCategory.BENIGN,
            )
        self._endpoints += 1
        try:
            async with heartbeats():
                return await self._deliver(deliver.endpoint_id, temporal_clock())
        finally:
            self._endpoints -= 1

    async def _deliver(self, endpoint_id: str, clock: Clock) -> Delivered:
        store, ends_at, pause_ends_at = self._store, clock() + LONGEST_TURN, None
        while clock() < ends_at and not activity.is_worker_shutdown():
            endpoint = await store.webhooks.find(endpoint_id)
            due = await store.deliveries.due(endpoint_id, clock(), AT_ONCE)
            if not endpoint or not due:
                break
            if not await self._try_all(endpoint, due, clock) and len(due) == AT_ONCE:
                # Otherwise an endpoint that is down would get its backlog all the time.
                pause_ends_at = clock() + _pause(endpoint, clock())
                await store.deliveries.give_up_late(endpoint_id, clock())
                break
        disabled = await store.deliveries.owner_to_tell(endpoint_id)
        if disabled and not await self._tell_owner(disabled, clock()):
            return Delivered(next_at=clock() + EMAIL_RETRY)
        next_at = await store.deliveries.next_at(endpoint_id)
        return Delivered(next_at=next_at and max(next_at, pause_ends_at or next_at))

    async def _try_all(self, endpoint: Endpoint, due: Sequence[Delivery], clock: Clock) -> bool:
        """Return True if the endpoint took one or more of these deliveries."""
        tries = (self._try(endpoint, each, clock) for each in due)
        # An error, such as an outage of the database, must not interrupt the other calls.
        results = await asyncio.gather(*tries, return_exceptions=True)
        for each in results:
            if isinstance(each, BaseException):
                raise each
        return any(results)

    async def _try(self, endpoint: Endpoint, delivery: Delivery, clock: Clock) -> bool:
        attempt = await self._attempt(endpoint, delivery)
        outcome = WebhookOutcome.DELIVERED if attempt.is_delivered else WebhookOutcome.FAILED
        WEBHOOKS.add(activity.metric_meter(), outcome=outcome)
        recorded = await self._store.deliveries.record(delivery.id, attempt, clock())
        if recorded.is_disabled:
            WEBHOOKS_DISABLED.add(activity.metric_meter())
        return attempt.is_delivered

    async def _attempt(self, endpoint: Endpoint, delivery: Delivery) -> Attempt:
        # Receivers compare the time with their own clock. Temporal's clock may skip time in tests.
        now = datetime.now(UTC)
        sealed = [endpoint.sealed_secret]
        until = endpoint.previous_secret_until
        if endpoint.previous_sealed_secret and until and now < until:
            sealed.append(endpoint.previous_sealed_secret)
        try:
            secrets = unseal(sealed, self._settings.signing_keys)
        except SecretLost as error:
            return Attempt(error=str(error))
        headers = sign(delivery.event_id, now, delivery.body, secrets)
        rules = address_rules(self._settings, for_all_requests=endpoint.for_all_requests)
        return await self._sender.send(endpoint.url, headers, delivery.body, rules)

    async def _tell_owner(self, endpoint: Endpoint, now: datetime) -> bool:
        """Send the owner of a disabled endpoint an email. Returns False to try again later."""
        assert endpoint.disabled_at
        kind = EmailKind.WEBHOOK_DISABLED
        try:
            await self._mail.send(self._composer.compose_webhook_disabled(endpoint))
        except MailError as error:
            is_late = now - endpoint.disabled_at >= GIVE_UP_AFTER
            if not is_late and not isinstance(error, RefusedPermanently):
                email_not_sent(kind, error)
                return False
            count_email(kind, metrics.Attempt.FAILED)
            _log.warning("the owner of webhook endpoint %s could not be told", endpoint.id)
        else:
            count_email(kind, metrics.Attempt.SENT)
        await self._store.deliveries.set_owner_told(endpoint.id, endpoint.disabled_at, now)
        return True


def _pause(endpoint: Endpoint, now: datetime) -> timedelta:
    """Return how long to wait for a failing endpoint. The longer it has failed, the longer."""
    failing_for = now - (endpoint.failing_since or now)
    return min(max(failing_for / 4, SHORTEST_PAUSE), LONGEST_PAUSE)
