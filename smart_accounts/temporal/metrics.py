"""The metrics of this process, in Prometheus' format."""

import logging

from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from smart_accounts.errors import BadSetting


class Metrics:
    """Counts events. If an address is given, serves the metrics there, with Temporal's own ones."""

    def __init__(self, setting: str = "", address: str | None = None) -> None:
        """Begin to serve the metrics at ``address``. ``setting`` names the address in errors.

        Raises:
            BadSetting: The address is malformed or in use.
        """
        # By default the SDK writes to standard output, which is the web server's security log. Its
        # fields are left out, because they quote failures.
        forwarding = LogForwardingConfig(
            logger=logging.getLogger("temporalio.core"),
            append_target_to_name=False,
            prepend_target_on_message=False,
            append_log_fields_to_message=False,
        )
        sdk_log = LoggingConfig(TelemetryFilter("WARN", "ERROR"), forwarding=forwarding)
        metrics = PrometheusConfig(bind_address=address) if address else None
        try:
            self.runtime = Runtime(telemetry=TelemetryConfig(logging=sdk_log, metrics=metrics))
        except ValueError as error:
            raise BadSetting(f"bad settings: {setting}: {error}") from None

    def count(self, metric: str, description: str) -> None:
        """Add one to a counter."""
        self.runtime.metric_meter.create_counter(metric, description).add(1)
