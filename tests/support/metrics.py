"""Metrics that a test reads instead of a scrape."""

import pytest
from temporalio.common import MetricMeter
from temporalio.runtime import (
    MetricBuffer,
    MetricBufferDurationFormat,
    Runtime,
    TelemetryConfig,
)

LABELS = ("dependency", "kind", "outcome", "signal", "status")
"""Our labels. The SDK adds others."""


class RecordedMetrics:
    """Everything that was counted, set or measured with ``meter`` since the last reading."""

    def __init__(self) -> None:
        self._buffer = MetricBuffer(10_000, MetricBufferDurationFormat.SECONDS)
        self._runtime = Runtime(telemetry=TelemetryConfig(metrics=self._buffer))
        self.meter: MetricMeter = self._runtime.metric_meter

    def read(self) -> list[tuple[str, float]]:
        """Return what was recorded, each with its name, its labels' values and the value.

        The SDK's own label is left out: ``("smart_accounts_requests lapsed", 1)``.
        """
        found = []
        for update in self._buffer.retrieve_updates():
            labels = [str(update.attributes[name]) for name in LABELS if name in update.attributes]
            found.append((" ".join([update.metric.name, *labels]), update.value))
        return found


@pytest.fixture(scope="session")
def _recorded() -> RecordedMetrics:
    return RecordedMetrics()


@pytest.fixture
def metrics(_recorded: RecordedMetrics) -> RecordedMetrics:
    _recorded.read()
    return _recorded
