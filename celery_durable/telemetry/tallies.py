"""What one event of a worker adds to which metric: the same for Prometheus and OpenTelemetry.

Events come over a broker that others can write to: what is damaged is left out, and the number of
names is limited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..core.flags import is_number
from .names import EVENT_PREFIX, TIMEOUTS
from .readings import Labels, Names

__all__ = ["Tallies", "Tally"]

_LONGEST = 1e10  # seconds; also what no infinity and no integer without end passes
_OUTCOMES = frozenset({"completed", "failed", "canceled", "terminated"})


class Tally(NamedTuple):
    """One more of a counter, or one value of a histogram."""

    metric: str
    labels: Labels = ()
    value: float = 1


class Tallies:
    """Reads events."""

    def __init__(self) -> None:
        self._orchestrations, self._activities, self._timed_out = Names(), Names(), Names()

    def of(self, event: Mapping[str, Any]) -> Iterator[Tally]:
        """Yield what an event adds; nothing if it is none of ours, or is damaged."""
        kind = event.get("type")
        if (
            not isinstance(kind, str)
            or not kind.startswith(EVENT_PREFIX)
            or "orchestration" not in event
        ):
            return
        name = self._orchestrations.of(event["orchestration"])
        yield from self._turn(event, name)
        yield from self._change(event, name, kind.removeprefix(EVENT_PREFIX))
        for lag in _numbers(event.get("timers")):
            yield Tally("celery_durable_timer_lag_seconds", (), lag)
        for activity, outcome, ran in _tuples(event.get("attempts"), 3):
            yield from self._attempt(activity, outcome, ran)
        for timed_out, limit in _tuples(event.get("timeouts"), 2):
            if limit in TIMEOUTS:
                yield Tally("celery_durable_timeouts_total", (self._timed_out.of(timed_out), limit))
        for (activity,) in _tuples(event.get("retries"), 1):
            yield Tally("celery_durable_activity_retries_total", (self._activities.of(activity),))

    def _turn(self, event: Mapping[str, Any], name: str) -> Iterator[Tally]:
        if (seconds := _number(event.get("seconds"))) is None:
            return  # no turn: a verb of a client's
        outcome = "suspended" if event.get("status") == "SUSPENDED" else "committed"
        yield Tally("celery_durable_turns_total", (name, outcome))
        yield Tally("celery_durable_turn_duration_seconds", (name,), seconds)
        if (lag := _number(event.get("lag"))) is not None:
            yield Tally("celery_durable_turn_lag_seconds", (name,), lag)

    def _change(self, event: Mapping[str, Any], name: str, change: str) -> Iterator[Tally]:
        if event.get("begun") is True:
            yield Tally("celery_durable_instances_started_total", (name,))
        if event.get("nondeterminism") is True:
            yield Tally("celery_durable_nondeterminism_total", (name,))
        if change in _OUTCOMES:
            yield Tally("celery_durable_instances_finished_total", (name, change))
            if (age := _number(event.get("age"))) is not None:
                yield Tally("celery_durable_instance_duration_seconds", (name,), age)

    def _attempt(self, activity: Any, outcome: Any, ran: Any) -> Iterator[Tally]:
        name = self._activities.of(activity)
        shown = "completed" if outcome == "completed" else "failed"
        yield Tally("celery_durable_activity_attempts_total", (name, shown))
        if (seconds := _number(ran)) is not None:
            yield Tally("celery_durable_activity_duration_seconds", (name,), seconds)


def _number(value: Any) -> float | None:
    """Return a duration; None if it is none."""
    return float(value) if is_number(value) and 0 <= value < _LONGEST else None


def _numbers(values: Any) -> Iterable[float]:
    found = map(_number, values) if isinstance(values, (list, tuple)) else ()
    return (value for value in found if value is not None)


def _tuples(values: Any, length: int) -> Iterator[Any]:
    """Yield what of a list has this length."""
    for each in values if isinstance(values, (list, tuple)) else ():
        if isinstance(each, (list, tuple)) and len(each) == length:
            yield each
