"""Run the activity ``send_emails`` without a workflow."""

from dataclasses import replace
from datetime import UTC, datetime

from temporalio.common import MetricMeter
from temporalio.testing import ActivityEnvironment

from activities.delivery import Delivery
from activities.emails import EmailActivities
from smart_accounts.contract.steps import Email, EmailOutcome, SendEmails
from smart_accounts.mail.compose import Composer
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.settings import SmtpTls
from smart_accounts.store.limits import Limits
from smart_accounts.store.sending import SendAttempt
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from tests.support.emails import SITE
from tests.support.keys import NEW_KEY
from tests.support.limits import new_limits
from tests.support.mail_server import MailServer

LIMITS = new_limits()
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def sender_to(
    mail_server: MailServer, username: str | None = None, password: str | None = None
) -> SmtpSender:
    return SmtpSender(
        hostname="127.0.0.1",
        port=mail_server.port,
        username=username,
        password=password,
        tls=SmtpTls.NONE,
    )


def email_activities(
    store: AccountStore,
    sender: SmtpSender,
    keys: tuple[str, ...] = (NEW_KEY,),
    limits: Limits = LIMITS,
) -> EmailActivities:
    """Return the activities of one worker."""
    delivery = Delivery(
        store, Composer(SITE), sender, LinkTokens(keys), SITE.base_url, "bounces.example", limits
    )
    return EmailActivities(delivery)


def send_attempt(
    email: Email,
    now: datetime = NOW,
    tokens: LinkTokens | None = None,
    limits: Limits = LIMITS,
    seen_lease: datetime | None = None,
) -> SendAttempt:
    """Return an attempt to send an email of the request ``one``."""
    return SendAttempt(
        request_id="one",
        email=email,
        message_id=Composer(SITE).message_id(email, "one"),
        tokens=tokens or LinkTokens([NEW_KEY]),
        clock=lambda: now,
        limits=limits,
        seen_lease=seen_lease,
    )


async def try_locally(
    worker: EmailActivities, *emails: Email, at: datetime = NOW
) -> list[EmailOutcome]:
    """Run the local activity ``try_emails``."""
    batch = SendEmails(request_id="one", emails=emails, now=at)
    return await ActivityEnvironment().run(worker.try_emails, batch)


async def send(
    store: AccountStore,
    sender: SmtpSender,
    *emails: Email,
    keys: tuple[str, ...] = (NEW_KEY,),
    limits: Limits = LIMITS,
    until: datetime | None = None,
    meter: MetricMeter = MetricMeter.noop,
    at: datetime = NOW,
) -> list[EmailOutcome]:
    environment = ActivityEnvironment()
    environment.metric_meter = meter
    environment.info = replace(environment.info, started_time=at)
    activities = email_activities(store, sender, keys, limits)
    return await environment.run(
        activities.send_emails, SendEmails(request_id="one", emails=emails, until=until)
    )
