"""What a look at the store says, as samples of metrics: the same for Prometheus and OpenTelemetry.

A look is kept for a while, and the longer, the longer it took: however often metrics are asked for,
the store pays a small part of its time for them, and nothing where none are asked for.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ..errors import DurableError
from ..store.metrics_snapshot import MetricsSnapshot, take_snapshot
from .names import CAUSES

__all__ = ["Labels", "Names", "Reading", "StoreReadings", "joined"]

Labels = tuple[str, ...]
_MOST_NAMES = 500
_OTHER = "other"
_SHARE = 100  # a snapshot takes at most one hundredth of the time


class Names:
    """A limited number of values of one label; what comes after that is "other"."""

    def __init__(self, most: int = _MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, value: Any) -> str:
        """Return the value of the label for a name."""
        name = value if isinstance(value, str) and len(value) <= 200 else _OTHER
        if name not in self._known:
            if len(self._known) >= self._most:
                return _OTHER
            self._known.add(name)
        return name


def _sum(one: float, other: float) -> float:
    return one + other


class Reading(NamedTuple):
    """The samples of one gauge; those with equal labels are joined."""

    name: str
    samples: list[tuple[Labels, float]]
    join: Callable[[float, float], float] = _sum


def joined(reading: Reading) -> dict[Labels, float]:
    """Return one value for each combination of labels."""
    found: dict[Labels, float] = {}
    for labels, value in reading.samples:
        found[labels] = reading.join(found[labels], value) if labels in found else value
    return found


class StoreReadings:
    """Looks at the store of a ``Durable``, not too often.

    Args:
        durable: whose store.
        cache: for how many seconds a look is kept at least. One that took long is kept a hundred
            times as long.
    """

    def __init__(self, durable: Any, cache: float = 15.0) -> None:
        self._durable = durable
        self._cache = cache
        self._lock = threading.Lock()
        self._names = Names()
        self._snapshot: MetricsSnapshot | None = None
        self._took = 0.0
        self._next = -math.inf

    def read(self) -> Iterator[Reading]:
        """Yield the readings; while the store cannot be read, that is ``celery_durable_up`` 0
        alone.
        """
        with self._lock:
            if time.monotonic() >= self._next:
                self._look()
            snapshot, took = self._snapshot, self._took
        yield Reading("celery_durable_up", [((), float(snapshot is not None))])
        if snapshot is not None:
            yield Reading("celery_durable_census_seconds", [((), took)])
            yield from self._of_instances(snapshot)
            yield from self._of_activities(snapshot)
            yield from self._of_waits(snapshot)

    def _look(self) -> None:
        began = time.monotonic()
        try:
            runtime = self._durable.runtime
            self._snapshot = take_snapshot(
                runtime.store,
                int(runtime.settings.worker_lease * 1_000_000),
                archives=runtime.settings.archive is not None,
            )
        except DurableError:
            self._snapshot = None
        self._took = time.monotonic() - began
        self._next = time.monotonic() + max(self._cache, _SHARE * self._took)

    def _of_instances(self, snapshot: MetricsSnapshot) -> Iterable[Reading]:
        populations, name = snapshot.populations, self._names.of
        yield Reading(
            "celery_durable_instances", [((name(p.name), p.status), p.count) for p in populations]
        )
        yield Reading(
            "celery_durable_oldest_pending_timestamp_seconds",
            [((name(p.name),), p.oldest_at / 1e6) for p in populations if p.status == "PENDING"],
            min,
        )
        yield Reading(
            "celery_durable_stuck_instances", [((name(p.name),), p.stuck) for p in populations]
        )
        yield Reading(
            "celery_durable_history_turns_max",
            [((name(p.name),), p.most_turns) for p in populations],
            max,
        )

    def _of_activities(self, snapshot: MetricsSnapshot) -> Iterable[Reading]:
        queues = [((self._names.of(queue.name),), queue) for queue in snapshot.queues]
        yield Reading(
            "celery_durable_outbox_pending", [(labels, queue.count) for labels, queue in queues]
        )
        yield Reading(
            "celery_durable_outbox_oldest_timestamp_seconds",
            [
                (labels, queue.oldest_at / 1e6)
                for labels, queue in queues
                if queue.oldest_at is not None
            ],
            min,
        )
        yield Reading(
            "celery_durable_outbox_resent", [(labels, queue.resent) for labels, queue in queues]
        )
        yield Reading("celery_durable_activities_running", [((), snapshot.running_activities)])

    def _of_waits(self, snapshot: MetricsSnapshot) -> Iterable[Reading]:
        waits = snapshot.waits
        yield Reading(
            "celery_durable_waiting", [((cause,), waits.get(cause, 0)) for cause in CAUSES]
        )
        yield Reading("celery_durable_turns_waiting", [((), snapshot.waiting_turns)])
        oldest = snapshot.oldest_turn_at
        yield Reading(
            "celery_durable_turns_oldest_timestamp_seconds",
            [] if oldest is None else [((), oldest / 1e6)],
        )
        yield Reading("celery_durable_timers_overdue", [((), snapshot.overdue_timers)])
        yield Reading("celery_durable_workers", [((), snapshot.living_workers)])
        yield Reading("celery_durable_schema_revision_info", [((snapshot.revision or "",), 1)])
        if (archive := snapshot.archive) is not None:
            yield Reading("celery_durable_archive_waiting", [((), archive.waiting)])
            yield Reading("celery_durable_archive_failing", [((), archive.failing)])
