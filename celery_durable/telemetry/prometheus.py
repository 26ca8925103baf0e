"""Metrics for Prometheus, from two sources: a look at the store, and the Celery events that workers
send.

``StoreCollector(durable)`` is registered like any collector and looks at the store at most every 15
seconds, and less often where a look takes long. ``EventMetrics(registry)`` counts what
``receive(event)`` is given. Counting events in one place spares Prometheus' multi-process mode in
prefork workers. Labels are names from the code, never ids or payloads, and a limited number of
them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError
from ..versions import demand
from .names import METRICS
from .readings import StoreReadings, joined
from .tallies import Tallies

demand("prometheus-client")
try:
    from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ConfigurationError(
        "metrics for Prometheus need the package prometheus-client: pip install"
        " 'celery-durable[prometheus]'"
    ) from error

__all__ = ["CollectorRegistry", "EventMetrics", "StoreCollector", "metrics", "start_http_server"]


class StoreCollector(Collector):
    """Metrics of what lives in the store now.

    Args:
        durable: the ``Durable`` whose store is looked at.
        cache: for how many seconds an answer is kept at least. One that took long is kept a hundred
            times as long.
    """

    def __init__(self, durable: Any, *, cache: float = 15.0) -> None:
        self._readings = StoreReadings(durable, cache)

    def describe(self) -> Iterable[Any]:
        """Return nothing: to be registered does not need the store."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics.

        While the store cannot be read, that is ``celery_durable_up`` 0 alone.
        """
        for reading in self._readings.read():
            metric = METRICS[reading.name]
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in joined(reading).items():
                family.add_metric(labels, value)
            yield family


class EventMetrics:
    """Counters and histograms of the events that workers send when events are on (``celery worker
    -E``).

    Args:
        registry: to register them in; none is Prometheus' default one.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        given: dict[str, Any] = {} if registry is None else {"registry": registry}
        self._tallies = Tallies()
        self._metrics: dict[str, Any] = {}
        for metric in METRICS.values():
            if metric.kind == "counter":
                self._metrics[metric.name] = Counter(
                    metric.name, metric.help, metric.labels, **given
                )
            elif metric.kind == "histogram":
                self._metrics[metric.name] = Histogram(
                    metric.name, metric.help, metric.labels, buckets=metric.buckets, **given
                )

    def receive(self, event: Mapping[str, Any]) -> None:
        """Count one Celery event; what is no event of ours, or is damaged, is left out."""
        for metric, labels, value in self._tallies.of(event):
            found = self._metrics[metric]
            if labels:
                found = found.labels(*labels)
            if METRICS[metric].kind == "counter":
                found.inc(value)
            else:
                found.observe(value)


_registries: weakref.WeakKeyDictionary[Any, CollectorRegistry] = weakref.WeakKeyDictionary()


def metrics(durable: Any, accept: str = "") -> tuple[bytes, str]:
    """Return the metrics of the store as a page for Prometheus, and its content type.

    Args:
        durable: the ``Durable`` whose store is looked at.
        accept: the ``Accept`` header of the request, which chooses between the formats.
    """
    registry = _registries.get(durable)
    if registry is None:
        registry = _registries[durable] = CollectorRegistry()
        registry.register(StoreCollector(durable))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
