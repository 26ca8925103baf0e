"""Metrics by OpenTelemetry, from the same two sources as those for Prometheus: a look at the store,
and the events that workers send.

The names are those of ``telemetry.names``, counters without their ``_total``: so what a collector
makes of them for Prometheus is called as what ``prometheus`` exports, and the dashboard fits both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError
from ..versions import demand
from .names import METRICS, Metric
from .readings import StoreReadings, joined
from .tallies import Tallies

demand("opentelemetry-api")
try:
    from opentelemetry.metrics import CallbackOptions, Observation, get_meter_provider
except ImportError as error:
    raise ConfigurationError(
        "metrics by OpenTelemetry need the package opentelemetry-api: pip install"
        " 'celery-durable[otel]'"
    ) from error

__all__ = ["OtelMetrics", "is_provided"]

_METER = "celery_durable"
_BUCKETS = "explicit_bucket_boundaries_advisory"


def is_provided() -> bool:
    """Tell whether the global meter provider is one that does something with metrics."""
    return not type(get_meter_provider()).__name__.startswith(("_Proxy", "NoOp"))


class OtelMetrics:
    """Instruments of one meter: gauges of the store, counters and histograms of events.

    The gauges look at the store when the provider collects, at most every 15 seconds. One process
    is enough; it has to be given the events that count (``celery durable exporter --otel`` does).

    Args:
        durable: the ``Durable`` whose store is looked at.
        meter_provider: of OpenTelemetry's SDK; the global one if left out.
        cache: for how many seconds a look at the store is kept at least.

    Example:
        >>> counted = OtelMetrics(durable)
        >>> counted.receive({"type": "durable-turn", "orchestration": "shop.order"})
    """

    def __init__(self, durable: Any, meter_provider: Any = None, *, cache: float = 15.0) -> None:
        self._readings = StoreReadings(durable, cache)
        self._tallies = Tallies()
        provider = get_meter_provider() if meter_provider is None else meter_provider
        meter = provider.get_meter(_METER)
        self._instruments: dict[str, Callable[[float, dict[str, str]], None]] = {}
        for metric in METRICS.values():
            if metric.source == "store":
                meter.create_observable_gauge(
                    metric.name, [self._observer(metric)], description=metric.help
                )
            elif metric.kind == "counter":
                name = metric.name.removesuffix("_total")
                self._instruments[metric.name] = meter.create_counter(
                    name, description=metric.help
                ).add
            else:
                self._instruments[metric.name] = _histogram(meter, metric).record

    def receive(self, event: Mapping[str, Any]) -> None:
        """Count one Celery event; what is no event of ours, or is damaged, is left out."""
        for metric, labels, value in self._tallies.of(event):
            self._instruments[metric](value, _attributes(METRICS[metric], labels))

    def _observer(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            for reading in self._readings.read():
                if reading.name == metric.name:
                    for labels, value in joined(reading).items():
                        yield Observation(value, _attributes(metric, labels))

        return observe


def _histogram(meter: Any, metric: Metric) -> Any:
    name = metric.name.removesuffix("_seconds")  # the unit makes it that again
    options: dict[str, Any] = {"unit": "s", "description": metric.help}
    if _BUCKETS in inspect.signature(meter.create_histogram).parameters:  # since 1.30
        options[_BUCKETS] = metric.buckets
    return meter.create_histogram(name, **options)


def _attributes(metric: Metric, labels: Iterable[str]) -> dict[str, str]:
    return dict(zip(metric.labels, labels, strict=True))
