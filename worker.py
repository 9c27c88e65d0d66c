"""The worker: wires settings, adapters and activities together, and runs until it is stopped."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.runtime import Runtime
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.accounts import AccountActivities
from activities.delivery import HEARTBEAT_EVERY, Delivery
from activities.emails import EmailActivities
from activities.erasure import ErasureActivities
from activities.reviews import ReviewActivities
from activities.sweep import SweepActivities
from activities.webhooks import WebhookActivities
from smart_accounts.contract.domains import allow_free_mail
from smart_accounts.contract.names import TASK_QUEUE
from smart_accounts.errors import BadSetting, Unavailable
from smart_accounts.mail.compose import Composer, Site
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.settings import Settings, load_settings
from smart_accounts.store.limits import Limits
from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.schedule import schedule_sweep
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.codec import hide_stack_traces_of_unknown_keys
from smart_accounts.temporal.connection import connect, require_search_attributes
from smart_accounts.temporal.deployment import deployment_version, log_missing_tasks
from smart_accounts.temporal.gauges import keep_gauges
from smart_accounts.temporal.guard import worker_data_converter
from smart_accounts.temporal.histories import Histories
from smart_accounts.temporal.logs import set_up_logging, with_cause
from smart_accounts.temporal.metrics import start_runtime, start_worker_counters
from smart_accounts.temporal.process_exit import exit_process
from smart_accounts.temporal.readiness import WorkerReadiness
from smart_accounts.temporal.relay import relay_webhooks
from smart_accounts.tokens import LinkTokens
from smart_accounts.version import code_id, describe
from smart_accounts.web.http.health import serve_health
from smart_accounts.webhooks.sender import WebhookSender
from smart_accounts.webhooks.signing import sealed_again
from workflows.options import workflow_options
from workflows.patches import is_activated

RETRY_EVERY = timedelta(seconds=2)
# How long emails in flight may take at shutdown. Later ones are retried by another worker.
SHUTDOWN_GRACE = timedelta(seconds=5)
# High, because most activities wait for the mail server and must not block `issue_link`.
MAX_CONCURRENT_ACTIVITIES = 500
# How long the cached requests of a crashed worker wait before another worker gets them.
STICKY_TIMEOUT = timedelta(seconds=1)

log = logging.getLogger("worker")


async def main(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    version = deployment_version()
    runtime = start_runtime("SMART_ACCOUNTS_METRICS_ADDRESS", settings.metrics_address)
    readiness = WorkerReadiness(stop)
    async with serve_health(settings.health_address, readiness.check):
        client = await wait_for_services(settings, stop, runtime)
        if client is None:
            return
        meter, requests = runtime.metric_meter, RequestClient(client)
        async with (
            AccountStore.open(
                settings.database_url, settings.database_pool_size, settings.base_url
            ) as store,
            run_worker(client, settings, store, version=version) as worker,
            keep_gauges(meter, requests, store),
        ):
            start_worker_counters(meter, client.namespace)
            readiness.set_running(lambda: worker.is_running, requests, store)
            log.info("worker ready")
            watching = asyncio.create_task(log_missing_tasks(client, version))
            await stop.wait()
            watching.cancel()


@asynccontextmanager
async def run_worker(
    client: Client,
    settings: Settings,
    store: AccountStore,
    *,
    version: WorkerDeploymentVersion | None = None,
    max_cached_requests: int = 1000,  # Temporal's default
) -> AsyncIterator[Worker]:
    """Run a worker. At the end it stops, within ``SHUTDOWN_GRACE``."""
    await _prepare(settings, store)
    sender = _sender(settings)
    composer = _composer(settings)
    delivery = _delivery(settings, store, composer, sender)
    emails = EmailActivities(delivery, only_through_queue=settings.emails_through_queue)
    reviews = ReviewActivities(store, composer, sender, settings.review_email)
    webhooks = WebhookActivities(store, WebhookSender(), composer, sender, settings)
    erasure = ErasureActivities(store, Histories(client), settings.purge_after)
    activities: list[Callable[..., Awaitable[object]]] = [
        *_account_activities(store, settings),
        emails.try_emails,
        emails.send_emails,
        reviews.tell_operators,
        SweepActivities(client, store, settings.signing_keys).sweep,
        erasure.purge_ended_requests,
        webhooks.deliver_webhooks,
    ]
    worker = _worker(client, activities, version, max_cached_requests)
    async with worker, relay_webhooks(client, store):
        yield worker
        stopped_at = time.monotonic()
    elapsed = timedelta(seconds=time.monotonic() - stopped_at)
    await emails.finish(within=max(SHUTDOWN_GRACE - elapsed, timedelta()))
    await sender.aclose()


async def wait_for_services(
    settings: Settings, stop: asyncio.Event, runtime: Runtime
) -> Client | None:
    """Return the client once the database and Temporal respond, or ``None`` if stopped before."""
    reaching = asyncio.create_task(_reach_services(settings, runtime))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((reaching, stopping), return_when=asyncio.FIRST_COMPLETED)
        return reaching.result() if reaching.done() else None
    finally:
        reaching.cancel()
        stopping.cancel()
        await asyncio.wait((reaching, stopping))


async def _reach_services(settings: Settings, runtime: Runtime) -> Client:
    while True:
        try:
            await migrate(settings.database_url)
            client = await connect(data_converter=worker_data_converter(settings), runtime=runtime)
            await require_search_attributes(client)
            await schedule_sweep(client)
        except Unavailable as error:
            log.warning("%s Trying again every %d s.", with_cause(error), RETRY_EVERY.seconds)
            await asyncio.sleep(RETRY_EVERY.total_seconds())
        else:
            return client


async def _prepare(settings: Settings, store: AccountStore) -> None:
    """Set up what is the same for all tasks, and encrypt webhooks' secrets with the newest key."""
    allow_free_mail(settings.free_mail_exceptions)
    hide_stack_traces_of_unknown_keys()
    keys = settings.signing_keys
    with suppress(Unavailable):  # each sweep does it too, long before the old key is removed
        await store.webhook_secrets.replace(lambda sealed: sealed_again(sealed, keys))


def _worker(
    client: Client,
    activities: Sequence[Callable[..., Awaitable[object]]],
    version: WorkerDeploymentVersion | None,
    max_cached_requests: int,
) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        **workflow_options(),
        patch_activation_callback=is_activated,
        deployment_config=_deployment_config(version),
        # The default is a hash of all imported modules, which are read again for it.
        build_id=None if version else code_id(),
        activities=activities,
        max_cached_workflows=max_cached_requests,
        max_concurrent_activities=MAX_CONCURRENT_ACTIVITIES,
        # The default sends one heartbeat per 80 % of the timeout. After a short delay the timeout
        # would pass, and an email in flight would be sent twice.
        max_heartbeat_throttle_interval=HEARTBEAT_EVERY,
        graceful_shutdown_timeout=SHUTDOWN_GRACE,
        sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
    )


def _deployment_config(version: WorkerDeploymentVersion | None) -> WorkerDeploymentConfig | None:
    if version is None:
        return None
    # A request waits for weeks. AUTO_UPGRADE moves it to each new version. PINNED would need the
    # workers of each version until the last of its requests has ended.
    return WorkerDeploymentConfig(
        version=version,
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )


def _sender(settings: Settings) -> SmtpSender:
    password = settings.smtp_password
    return SmtpSender(
        hostname=settings.smtp_hostname,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=password.get_secret_value() if password else None,
        tls=settings.smtp_tls,
        local_hostname=settings.smtp_local_hostname,
    )


def _composer(settings: Settings) -> Composer:
    return Composer(
        Site(
            base_url=settings.base_url,
            organisation_name=settings.organisation_name,
            support_url=str(settings.support_url) if settings.support_url else None,
            support_email=settings.support_email,
            mail_from=settings.mail_from,
        )
    )


def _delivery(
    settings: Settings, store: AccountStore, composer: Composer, sender: SmtpSender
) -> Delivery:
    return Delivery(
        store,
        composer,
        sender,
        LinkTokens(settings.signing_keys),
        settings.base_url,
        settings.bounce_domain,
        Limits.of(settings),
    )


def _account_activities(
    store: AccountStore, settings: Settings
) -> list[Callable[..., Awaitable[object]]]:
    accounts = AccountActivities(store, Limits.of(settings))
    return [
        accounts.open_request,
        accounts.approve_request,
        accounts.issue_link,
        accounts.activate_account,
        accounts.close_request,
        accounts.close_account,
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print(describe())  # noqa: T201 - the output that was asked for
        sys.exit()
    try:
        given = load_settings()
        set_up_logging(given.log_format, sys.stdout, logging.INFO)
        asyncio.run(main(given))
    except BadSetting as problem:
        print(problem, file=sys.stderr)  # noqa: T201 - one line for the operator, without a log prefix
        exit_process(2)
    except Exception:
        log.exception("The worker stopped.")
        exit_process(1)
    exit_process(0)
