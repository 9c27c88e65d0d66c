"""The worker: settings, adapters, activities, worker. Nothing imports this file."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.accounts import AccountActivities
from activities.emails import HEARTBEAT_EVERY, EmailActivities
from smart_accounts.contract.names import TASK_QUEUE
from smart_accounts.errors import BadSetting, Unavailable
from smart_accounts.mail.compose import Composer, Site
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.settings import PREFIX, Settings, load_settings
from smart_accounts.store.database import migrate
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.connection import connect, require_search_attributes
from smart_accounts.temporal.guard import (
    GuardInterceptor,
    worker_data_converter,
)
from smart_accounts.tokens import LinkTokens
from workflows.remaining_emails import RemainingEmailsWorkflow
from workflows.smart_account_request import SmartAccountRequestWorkflow

RETRY_EVERY = timedelta(seconds=2)
GRACE = timedelta(seconds=5)  # for emails in flight; then they are left to be retried
ACTIVITIES = 500  # at once: they wait for the mail server, and others' new links not behind them
STICKY_TIMEOUT = timedelta(seconds=1)  # how long a dead worker's requests wait for this one

log = logging.getLogger("worker")


async def main(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    client = await _wait_for_services(settings, stop, _runtime(settings))
    if client is None:
        return
    sender = _sender(settings)
    async with AccountStore.open(settings.database_url) as store:
        worker = Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[SmartAccountRequestWorkflow, RemainingEmailsWorkflow],
            activities=_activities(settings, store, sender),
            interceptors=[GuardInterceptor()],
            # The sandbox would double the worker's CPU time; the tests run in it instead.
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_concurrent_activities=ACTIVITIES,
            # Else one in 80 % of the time-out: after a short delay a send in flight is made twice.
            max_heartbeat_throttle_interval=HEARTBEAT_EVERY,
            graceful_shutdown_timeout=GRACE,
            sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
        )
        async with worker:
            log.info("worker ready")
            await stop.wait()
        await sender.aclose()


def _runtime(settings: Settings) -> Runtime | None:
    """One that serves metrics, if it has to."""
    if settings.metrics_address is None:
        return None
    metrics = PrometheusConfig(bind_address=settings.metrics_address)
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=metrics))
    except ValueError as error:  # no address, or a taken one
        raise BadSetting(f"bad settings: {PREFIX}METRICS_ADDRESS: {error}") from None


async def _wait_for_services(
    settings: Settings, stop: asyncio.Event, runtime: Runtime | None
) -> Client | None:
    """The client, once database and Temporal answer; ``None`` if told to stop before."""
    while not stop.is_set():
        try:
            await migrate(settings.database_url)
            client = await connect(data_converter=worker_data_converter, runtime=runtime)
            await require_search_attributes(client)
        except Unavailable as error:
            log.warning("%s Trying again every %d s.", error, RETRY_EVERY.seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_EVERY.total_seconds())
        else:
            return client
    return None


def _sender(settings: Settings) -> SmtpSender:
    password = settings.smtp_password
    return SmtpSender(
        hostname=settings.smtp_hostname,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=password.get_secret_value() if password else None,
        tls=settings.smtp_tls,
    )


def _activities(
    settings: Settings, store: AccountStore, sender: SmtpSender
) -> list[Callable[..., Awaitable[object]]]:
    site = Site(
        base_url=settings.base_url,
        organisation_name=settings.organisation_name,
        support_url=str(settings.support_url) if settings.support_url else None,
        mail_from=settings.mail_from,
    )
    tokens = LinkTokens([key.get_secret_value() for key in settings.secret_keys])
    accounts = AccountActivities(store, Limits.of(settings))
    emails = EmailActivities(
        store, Composer(site), sender, tokens, settings.base_url, settings.bounce_domain
    )
    return [
        accounts.open_request,
        accounts.issue_link,
        accounts.activate_account,
        accounts.close_request,
        emails.send_emails,
    ]


def _exit(status: int) -> None:
    """End at once: the SDK's threads can crash an interpreter that finalizes under them."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        asyncio.run(main(load_settings()))
    except BadSetting as problem:
        print(problem, file=sys.stderr)  # noqa: T201 - the one line for whoever started it
        _exit(2)
    except Exception:
        log.exception("The worker stopped.")
        _exit(1)
    _exit(0)
