"""The metrics of this process, in Prometheus' format."""

from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from smart_accounts.errors import BadSetting


class Metrics:
    """Counts events. If an address is given, serves the metrics there, with Temporal's own ones."""

    def __init__(self, setting: str = "", address: str | None = None) -> None:
        """Begin to serve the metrics at ``address``. ``setting`` names the address in errors.

        Raises:
            BadSetting: The address is malformed or in use.
        """
        self.runtime: Runtime | None = None
        if address is None:
            return
        config = TelemetryConfig(metrics=PrometheusConfig(bind_address=address))
        try:
            self.runtime = Runtime(telemetry=config)
        except ValueError as error:
            raise BadSetting(f"bad settings: {setting}: {error}") from None

    def count(self, metric: str, description: str) -> None:
        """Add one to a counter."""
        meter = self.runtime.metric_meter if self.runtime else MetricMeter.noop
        meter.create_counter(metric, description).add(1)
