"""The metrics of this process, in Prometheus' format: ours, and those of Temporal's SDK.

No label holds personal data, and each label has a small, fixed set of values. The exporter adds
``_total`` to the names of counters and ``_seconds`` to those of durations.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from temporalio.common import MetricMeter
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from smart_accounts.contract.messages import EmailKind
from smart_accounts.contract.names import TASK_QUEUE, WEBHOOK_DELIVERY_TYPE, WORKFLOW_TYPE
from smart_accounts.errors import BadSetting

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
_ABOUT_REQUESTS = set(EmailKind) - {EmailKind.REVIEW_NEEDED, EmailKind.WEBHOOK_DISABLED}


@dataclass(frozen=True)
class Counter:
    name: str
    description: str

    def add(self, meter: MetricMeter, amount: int = 1, **labels: str) -> None:
        meter.create_counter(self.name, self.description).add(amount, labels)


@dataclass(frozen=True)
class Histogram:
    """A duration. The objectives in ``deploy/prometheus/rules.yml`` name some of the buckets."""

    name: str
    description: str
    buckets: tuple[float, ...]  # in seconds

    def record(self, meter: MetricMeter, duration: timedelta, **labels: str) -> None:
        """Record a duration. A negative one, from two clocks that differ, counts as 0."""
        histogram = meter.create_histogram_timedelta(self.name, self.description, "duration")
        histogram.record(max(duration, timedelta()), labels)


class Attempt(StrEnum):
    """What became of an attempt to send an email, or of an email that was sent."""

    SENT = "sent"
    FAILED = "failed"
    DELAYED = "delayed"
    UNREACHABLE = "unreachable"
    BOUNCED = "bounced"


class WebhookOutcome(StrEnum):
    """What became of an attempt to deliver an event."""

    DELIVERED = "delivered"
    FAILED = "failed"


EMAILS = Counter("smart_accounts_emails", "Attempts to send an email, by kind and outcome")
REFUSED_BECAUSE_OF_SENDER = Counter(
    "smart_accounts_emails_refused_because_of_sender",
    "Attempts to send an email that the mail server refused because of our settings",
)
RETURNED = Counter("smart_accounts_returned_emails", "Emails that were returned because of us")
UNREADABLE = Counter(
    "smart_accounts_unreadable_bounces", "Emails to a return path that could not be read"
)
DROPPED_SIGNALS = Counter(
    "smart_accounts_dropped_signals", "Signals dropped because they could not be read"
)
REVIEWS_NEEDED = Counter("smart_accounts_reviews_needed", "Requests that an operator must review")
SWEEP_DIFFERENCES = Counter(
    "smart_accounts_sweep_differences", "Differences between the database and Temporal, by kind"
)
SWEEP_HELD = Counter("smart_accounts_sweep_held", "Sweeps that an operator must continue")

WEBHOOKS = Counter("smart_accounts_webhooks", "Attempts to deliver an event, by outcome")
WEBHOOKS_DISABLED = Counter(
    "smart_accounts_webhook_endpoints_disabled", "Endpoints disabled after five days of failures"
)

TIME_TO_ACTIVATION_EMAIL = Histogram(
    "smart_accounts_time_to_activation_email",
    "From the request, or its approval in a review, to the first activation email",
    (1, 2, 5, 10, 30, MINUTE, 5 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, DAY, 5 * DAY),
)
TIME_TO_ACTIVE = Histogram(
    "smart_accounts_time_to_active",
    "From the customer's acceptance to the active account",
    (0.5, 1, 2, 5, 10, 30, MINUTE, 5 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, DAY, 5 * DAY),
)
TIME_TO_DECISION = Histogram(
    "smart_accounts_time_to_decision",
    "From the request to the decision that ended it",
    (MINUTE, 10 * MINUTE, HOUR, 6 * HOUR, *(n * DAY for n in (1, 2, 4, 7, 14, 30, 60, 90, 365))),
)
HISTOGRAMS = (TIME_TO_ACTIVATION_EMAIL, TIME_TO_ACTIVE, TIME_TO_DECISION)


def start_runtime(setting: str, address: str | None) -> Runtime:
    """Return a runtime of Temporal's SDK whose log goes to Python's.

    If an address is given, the runtime serves the metrics there. ``setting`` names the address in
    errors.

    Raises:
        BadSetting: The address is malformed or in use.
    """
    metrics = None
    if address:
        metrics = PrometheusConfig(
            bind_address=address,
            # The names in Temporal's documentation have these suffixes and units.
            counters_total_suffix=True,
            unit_suffix=True,
            durations_as_seconds=True,
            histogram_bucket_overrides={each.name: each.buckets for each in HISTOGRAMS},
        )
    # Otherwise the SDK writes to standard output, which is the web server's security log. Its
    # fields are left out, because they quote failures.
    forwarding = LogForwardingConfig(
        logger=logging.getLogger("temporalio.core"),
        append_target_to_name=False,
        prepend_target_on_message=False,
        append_log_fields_to_message=False,
    )
    sdk_log = LoggingConfig(TelemetryFilter("WARN", "ERROR"), forwarding=forwarding)
    try:
        return Runtime(telemetry=TelemetryConfig(logging=sdk_log, metrics=metrics))
    except ValueError as error:
        raise BadSetting(f"bad settings: {setting}: {error}") from None


def start_worker_counters(meter: MetricMeter, namespace: str) -> None:
    """Set the worker's counters to 0.

    Prometheus sees no increase from a missing series to 1, so an alert would miss the first event.
    The labels beside ours are those that Temporal's SDK adds later.
    """
    here = meter.with_additional_attributes({"namespace": namespace, "task_queue": TASK_QUEUE})
    request = here.with_additional_attributes({"workflow_type": WORKFLOW_TYPE})
    REVIEWS_NEEDED.add(request, 0)
    for signal in ("accepted", "declined", "bounced"):
        DROPPED_SIGNALS.add(request, 0, signal=signal)
    delivery = here.with_additional_attributes({"workflow_type": WEBHOOK_DELIVERY_TYPE})
    DROPPED_SIGNALS.add(delivery, 0, signal="deliveries_waiting")
    SWEEP_DIFFERENCES.add(here, 0)
    SWEEP_HELD.add(here.with_additional_attributes({"activity_type": "sweep"}), 0)
    for activity in ("try_emails", "send_emails"):
        sending = here.with_additional_attributes({"activity_type": activity})
        REFUSED_BECAUSE_OF_SENDER.add(sending, 0)
        _start_emails(sending, _ABOUT_REQUESTS, set(Attempt))
    telling = here.with_additional_attributes({"activity_type": "tell_operators"})
    _start_emails(telling, {EmailKind.REVIEW_NEEDED}, set(Attempt))
    delivering = here.with_additional_attributes({"activity_type": "deliver_webhooks"})
    _start_emails(delivering, {EmailKind.WEBHOOK_DISABLED}, set(Attempt))
    WEBHOOKS_DISABLED.add(delivering, 0)
    for outcome in WebhookOutcome:
        WEBHOOKS.add(delivering, 0, outcome=outcome)


def start_web_counters(meter: MetricMeter) -> None:
    """Set the web server's counters to 0."""
    RETURNED.add(meter, 0)
    UNREADABLE.add(meter, 0)
    _start_emails(meter, _ABOUT_REQUESTS, {Attempt.BOUNCED})


def _start_emails(
    meter: MetricMeter, kinds: Iterable[EmailKind], attempts: Iterable[Attempt]
) -> None:
    for kind in kinds:
        for attempt in attempts:
            EMAILS.add(meter, 0, kind=kind, outcome=attempt)
