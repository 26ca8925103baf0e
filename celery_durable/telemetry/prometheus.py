"""Metrics for Prometheus, from two sources: a look at the store, and the Celery events that workers
send.

``StoreCollector(durable)`` is registered like any collector and looks at the store at most every 15
seconds, and less often where a look takes long. ``EventMetrics(registry)`` counts what
``receive(event)`` is given. Counting events in one place spares Prometheus' multi-process mode in
prefork workers. Labels are names from the code, never ids or payloads, and a limited number of
them.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError, DurableError
from ..store.census import Census, take_census
from ..versions import demand
from .names import EVENT_PREFIX, METRICS

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

_MOST_NAMES = 500
_OTHER = "other"
_SHARE = 100  # a census takes at most one hundredth of the time
_LONGEST = 1e10  # seconds; also what no infinity and no integer without end passes
_OUTCOMES = frozenset({"completed", "failed", "canceled", "terminated"})


class _Names:
    """A limited number of values of one label; what comes after that is "other"."""

    def __init__(self, most: int = _MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, value: Any) -> str:
        name = value if isinstance(value, str) and len(value) <= 200 else _OTHER
        if name not in self._known:
            if len(self._known) >= self._most:
                return _OTHER
            self._known.add(name)
        return name


class StoreCollector(Collector):
    """Metrics of what lives in the store now.

    Args:
        durable: the ``Durable`` whose store is looked at.
        cache: for how many seconds an answer is kept at least. One that took long is kept a hundred
            times as long.
    """

    def __init__(self, durable: Any, *, cache: float = 15.0) -> None:
        self._durable = durable
        self._cache = cache
        self._lock = threading.Lock()
        self._names = _Names()
        self._census: Census | None = None
        self._took = 0.0
        self._next = -math.inf

    def describe(self) -> Iterable[Any]:
        """Return nothing: to be registered does not need the store."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return the metrics.

        While the store cannot be read, that is ``celery_durable_up`` 0 alone.
        """
        with self._lock:
            if time.monotonic() >= self._next:
                self._look()
            census, took = self._census, self._took
        yield _gauge("celery_durable_up", [((), float(census is not None))])
        if census is not None:
            yield _gauge("celery_durable_census_seconds", [((), took)])
            yield from self._families(census)

    def _look(self) -> None:
        began = time.monotonic()
        try:
            runtime = self._durable.runtime
            self._census = take_census(
                runtime.store, int(runtime.settings.worker_lease * 1_000_000)
            )
        except DurableError:
            self._census = None
        self._took = time.monotonic() - began
        self._next = time.monotonic() + max(self._cache, _SHARE * self._took)

    def _families(self, census: Census) -> Iterable[GaugeMetricFamily]:
        populations, name = census.populations, self._names.of
        yield _gauge(
            "celery_durable_instances", [((name(p.name), p.status), p.count) for p in populations]
        )
        yield _gauge(
            "celery_durable_oldest_pending_timestamp_seconds",
            [((name(p.name),), p.oldest_at / 1e6) for p in populations if p.status == "PENDING"],
            min,
        )
        yield _gauge(
            "celery_durable_stuck_instances", [((name(p.name),), p.stuck) for p in populations]
        )
        yield _gauge(
            "celery_durable_history_turns_max",
            [((name(p.name),), p.most_turns) for p in populations],
            max,
        )
        queues = [((name(queue.name),), queue) for queue in census.queues]
        yield _gauge(
            "celery_durable_outbox_pending", [(labels, queue.count) for labels, queue in queues]
        )
        yield _gauge(
            "celery_durable_outbox_oldest_timestamp_seconds",
            [
                (labels, queue.oldest_at / 1e6)
                for labels, queue in queues
                if queue.oldest_at is not None
            ],
            min,
        )
        yield _gauge(
            "celery_durable_outbox_resent", [(labels, queue.resent) for labels, queue in queues]
        )
        yield _gauge("celery_durable_turns_waiting", [((), census.waiting_turns)])
        oldest = [] if census.oldest_turn_at is None else [((), census.oldest_turn_at / 1e6)]
        yield _gauge("celery_durable_turns_oldest_timestamp_seconds", oldest)
        yield _gauge("celery_durable_activities_running", [((), census.running_activities)])
        yield _gauge("celery_durable_timers_overdue", [((), census.overdue_timers)])
        yield _gauge("celery_durable_workers", [((), census.living_workers)])
        yield _gauge("celery_durable_schema_revision_info", [((census.revision or "",), 1)])


def _gauge(
    name: str,
    samples: Iterable[tuple[tuple[str, ...], float]],
    join: Callable[[float, float], float] = lambda one, other: one + other,
) -> GaugeMetricFamily:
    """Return a family of samples; those with equal labels become one."""
    found: dict[tuple[str, ...], float] = {}
    for labels, value in samples:
        found[labels] = join(found[labels], value) if labels in found else value
    metric = METRICS[name]
    family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in found.items():
        family.add_metric(labels, value)
    return family


class EventMetrics:
    """Counters and histograms of the events that workers send when events are on (``celery worker
    -E``).

    Args:
        registry: to register them in; none is Prometheus' default one.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        given: dict[str, Any] = {} if registry is None else {"registry": registry}
        self._orchestrations, self._activities = _Names(), _Names()
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
        kind = event.get("type")
        if (
            not isinstance(kind, str)
            or not kind.startswith(EVENT_PREFIX)
            or "orchestration" not in event
        ):
            return
        name = self._orchestrations.of(event["orchestration"])
        self._count_turn(event, name)
        self._count_change(event, name, kind.removeprefix(EVENT_PREFIX))
        for lag in _numbers(event.get("timers")):
            self._observe("celery_durable_timer_lag_seconds", lag)
        attempts = event.get("attempts")
        for attempt in attempts if isinstance(attempts, (list, tuple)) else ():
            if isinstance(attempt, (list, tuple)) and len(attempt) == 3:
                self._count_attempt(*attempt)

    def _count_turn(self, event: Mapping[str, Any], name: str) -> None:
        if (seconds := _number(event.get("seconds"))) is None:
            return  # no turn: a verb of a client's
        outcome = "suspended" if event.get("status") == "SUSPENDED" else "committed"
        self._metrics["celery_durable_turns_total"].labels(name, outcome).inc()
        self._observe("celery_durable_turn_duration_seconds", seconds, name)
        if (lag := _number(event.get("lag"))) is not None:
            self._observe("celery_durable_turn_lag_seconds", lag, name)

    def _count_change(self, event: Mapping[str, Any], name: str, change: str) -> None:
        if event.get("begun") is True:
            self._metrics["celery_durable_instances_started_total"].labels(name).inc()
        if event.get("nondeterminism") is True:
            self._metrics["celery_durable_nondeterminism_total"].labels(name).inc()
        if change in _OUTCOMES:
            self._metrics["celery_durable_instances_finished_total"].labels(name, change).inc()
            if (age := _number(event.get("age"))) is not None:
                self._observe("celery_durable_instance_duration_seconds", age, name)

    def _count_attempt(self, activity: Any, outcome: Any, ran: Any) -> None:
        name = self._activities.of(activity)
        self._metrics["celery_durable_activity_attempts_total"].labels(
            name, "completed" if outcome == "completed" else "failed"
        ).inc()
        if (seconds := _number(ran)) is not None:
            self._observe("celery_durable_activity_duration_seconds", seconds, name)

    def _observe(self, metric: str, value: float, *labels: str) -> None:
        found = self._metrics[metric]
        (found.labels(*labels) if labels else found).observe(value)


def _number(value: Any) -> float | None:
    """Return a duration; None if it is none."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < _LONGEST else None


def _numbers(values: Any) -> Iterable[float]:
    found = map(_number, values) if isinstance(values, (list, tuple)) else ()
    return (value for value in found if value is not None)


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
