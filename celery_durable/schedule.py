"""Declaring schedules, and the handle of one: everything a client does with them, over the store.

Every verb is idempotent but ``trigger``, and reads, decides and writes under a comparison: of two at once, the later one
reads anew.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, get_args

from celery import Celery

from .core.context import EPOCH, as_microseconds, refuse_inside_orchestrator
from .core.retry import Interval, in_microseconds
from .engine.client import StartRequest, check_text
from .engine.schedules import Overlap, ScheduleRow, check_of, cron_text, instance_of, tick_id, times_of, zone_of
from .errors import ConfigurationError, DurableError, ScheduleNotFound
from .result import Orchestration

__all__ = ["Schedule", "declare_schedule", "find_schedule", "list_schedules"]

_TRIES = 60
_SHORTEST = 100_000
_LONGEST = 100 * 366 * 86_400 * 1_000_000
_LONGEST_NAME = 100
_MOST_BACKFILLED = 10_000
_DEFINITION = (
    "orchestrator", "input", "canvas", "queue", "cron", "every", "timezone", "overlap", "catch_up", "jitter",
)  # fmt: skip
_TIMING = ("cron", "every", "timezone")


class Schedule:
    """One schedule, as it was when it was last read: by the call that gave it, by a verb, or by ``refresh()``.

    Times are aware UTC.
    """

    def __init__(self, app: Celery, row: ScheduleRow) -> None:
        self._app = app
        self._row = row

    def __repr__(self) -> str:
        return f"<Schedule {self.name!r} of {self.orchestrator}>"

    @property
    def _runtime(self) -> Any:
        return self._app.durable.runtime

    # -- what the store knows ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        return self._row.name

    @property
    def orchestrator(self) -> str:
        """The name of the orchestrator that it starts."""
        return self._row.orchestrator

    @property
    def cron(self) -> str | None:
        """The crontab line: minute, hour, day of month, month, day of week; None if it has an interval."""
        return self._row.cron

    @property
    def interval(self) -> timedelta | None:
        """The interval; None if it has a crontab line."""
        return None if self._row.every is None else timedelta(microseconds=self._row.every)

    @property
    def tz(self) -> str:
        """The time zone that the crontab line is read in."""
        return self._row.timezone

    @property
    def overlap(self) -> Overlap:
        """What becomes of a tick while the instance before it runs."""
        return self._row.overlap

    @property
    def catch_up(self) -> timedelta:
        """How old a missed tick may be to run still."""
        return timedelta(microseconds=self._row.catch_up)

    @property
    def jitter(self) -> timedelta:
        """By how much a start is delayed at most."""
        return timedelta(microseconds=self._row.jitter)

    @property
    def next_at(self) -> datetime | None:
        """The nominal time of the next tick; None while it is paused."""
        return _moment(self._row.next_at)

    @property
    def last_at(self) -> datetime | None:
        """The nominal time of the last tick that started an instance."""
        return _moment(self._row.last_at)

    @property
    def last_id(self) -> str | None:
        """The id of the instance that the last tick started."""
        return self._row.last_id

    @property
    def skipped(self) -> int:
        """How many ticks were left out because an instance still ran."""
        return self._row.skipped

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self._row.is_paused

    @property
    def reason(self) -> str | None:
        """Why it is paused."""
        return self._row.reason

    def refresh(self) -> Schedule:
        """Read everything anew.

        Raises:
            ScheduleNotFound: it was deleted.
        """
        self._row = _fetch(self._runtime, self.name)
        return self

    # -- verbs ------------------------------------------------------------------------------------------------

    def pause(self, *, reason: str | None = None) -> Schedule:
        """Start nothing until ``resume``; what runs goes on.

        Raises:
            ScheduleNotFound: it was deleted.
        """

        def pause(row: ScheduleRow, now: int) -> ScheduleRow:
            return row if row.is_paused else replace(row, is_paused=True, reason=reason, next_at=None, check_at=None)

        return self._change("pause()", pause)

    def resume(self) -> Schedule:
        """Go on with the next tick from now; those of the pause are not made up for.

        Raises:
            ScheduleNotFound: it was deleted.
        """

        def resume(row: ScheduleRow, now: int) -> ScheduleRow:
            return _planned(replace(row, is_paused=False, reason=None), now) if row.is_paused else row

        return self._change("resume()", resume)

    def trigger(self) -> Orchestration:
        """Start an extra instance now, whatever runs; its id is ``<name>@manual-<random>``.

        Raises:
            ScheduleNotFound: it was deleted.
            ConfigurationError: this process does not know the orchestrator.
        """
        refuse_inside_orchestrator("trigger()")
        self.refresh()
        return self._start(f"{self.name}@manual-{uuid.uuid4().hex}")[0]

    def backfill(self, start: datetime, end: datetime) -> list[Orchestration]:
        """Start an instance for each nominal time from ``start`` to ``end``, both included, that has none yet.

        All begin at once: ``overlap`` and ``jitter`` do not count. A repeat starts only what is missing.

        Returns:
            The orchestrations that are new, oldest first.

        Raises:
            ValueError: a time is naive, ``end`` lies in the future, or there are more than 10,000 nominal times.
            ScheduleNotFound: it was deleted.
            ConfigurationError: this process does not know the orchestrator.
        """
        refuse_inside_orchestrator("backfill()")
        first, last = as_microseconds(start), as_microseconds(end)
        if last > self._runtime.store.now():
            raise ValueError(f"backfill() is for times that have passed; {end.isoformat()} has not")
        self.refresh()
        begun = (self._start(tick_id(self.name, tick)) for tick in self._ticks(first, last))
        return [run for run, is_new in begun if is_new]

    def _ticks(self, first: int, last: int) -> list[int]:
        times, found = times_of(self._row), list[int]()
        tick = times.after(first - 1)
        while tick <= last:
            found.append(tick)
            if len(found) > _MOST_BACKFILLED:
                raise ValueError(
                    f"there are more than {_MOST_BACKFILLED} ticks of {self.name!r} in that time; backfill it in portions"
                )
            tick = times.after(tick)
        return found

    def delete(self) -> None:
        """Delete the schedule; what it started goes on. Without effect if it is gone already."""
        refuse_inside_orchestrator("delete()")
        self._runtime.store.delete_schedule(self.name)

    def _start(self, instance_id: str) -> tuple[Orchestration, bool]:
        runtime, row = self._runtime, self._row
        definition = runtime.registry.newest(row.orchestrator)
        if definition is None:
            raise ConfigurationError(
                f"schedule {row.name!r} starts the orchestrator {row.orchestrator!r}, which this process does not know: "
                "import the module that defines it"
            )
        new = instance_of(row, instance_id, definition.version)
        runtime.runner.flows.dress(new, definition)
        is_new = runtime.store.insert_instance(new)
        if is_new:
            runtime.client.nudge(new)
        return Orchestration(instance_id, app=self._app), is_new

    def _change(self, what: str, change: Callable[[ScheduleRow, int], ScheduleRow]) -> Schedule:
        refuse_inside_orchestrator(what)
        store = self._runtime.store
        for _ in range(_TRIES):
            old = _fetch(self._runtime, self.name)
            new = change(old, store.now())
            if new is old or store.change_schedule(new):
                return self.refresh()
        raise _moves_too_fast(self.name)


# -- declaring and finding ----------------------------------------------------------------------------------------


def declare_schedule(
    app: Celery, name: str, request: StartRequest, *, cron: Any, interval: Any, tz: Any, overlap: Overlap, catch_up: Interval,
    jitter: Interval,
) -> Schedule:  # fmt: skip
    """Make a schedule, or bring it to this definition; see ``Durable.schedule``."""
    refuse_inside_orchestrator("durable.schedule()")
    runtime = app.durable.runtime
    _check_name(name)
    _check_request(request)
    if overlap not in get_args(Overlap):
        raise ValueError(f"overlap must be 'skip', 'buffer', 'cancel' or 'allow', not {overlap!r}")
    line, every, timezone = _timing(app, cron, interval, tz)
    times = {"catch_up": _length(catch_up, "catch_up"), "jitter": _length(jitter, "jitter")}
    canvas = {key: value for key, value in (request.canvas or {}).items() if key != "reply"}  # nobody waits for replies
    sample = runtime.client.prepare(replace(request, canvas=canvas))
    now = runtime.store.now()
    row = ScheduleRow(
        name, sample.name, sample.input, sample.canvas, sample.queue, line, every, timezone, anchor_at=now, overlap=overlap,
        is_paused=False, reason=None, next_at=None, waiting_at=None, last_at=None, last_id=None, skipped=0, check_at=None,
        revision=now, created_at=now, updated_at=now, **times,
    )  # fmt: skip
    return Schedule(app, _write(runtime.store, _planned(row, now)))


def find_schedule(app: Celery, name: str) -> Schedule:
    """Return the handle of a schedule.

    Raises:
        ScheduleNotFound: there is none.
    """
    return Schedule(app, _fetch(app.durable.runtime, name))


def list_schedules(app: Celery) -> list[Schedule]:
    """Return all schedules, by name."""
    return [Schedule(app, row) for row in app.durable.runtime.store.list_schedules()]


def _write(store: Any, new: ScheduleRow) -> ScheduleRow:
    """Insert or update, and return what is there then."""
    for _ in range(_TRIES):
        old: ScheduleRow | None = store.get_schedule(new.name)
        if old is None:
            store.insert_schedule(new)  # the next look tells whose is there
        elif all(getattr(old, name) == getattr(new, name) for name in _DEFINITION):
            return old
        else:
            store.change_schedule(_redefined(old, new))
    raise _moves_too_fast(new.name)


def _redefined(old: ScheduleRow, new: ScheduleRow) -> ScheduleRow:
    """Return a schedule with a new definition; its times begin anew only if they are other ones."""
    row = replace(old, updated_at=new.created_at, **{name: getattr(new, name) for name in _DEFINITION})
    if all(getattr(old, name) == getattr(new, name) for name in _TIMING):
        return row
    row = replace(row, anchor_at=new.anchor_at)
    return row if row.is_paused else _planned(row, new.created_at)


def _planned(row: ScheduleRow, now: int) -> ScheduleRow:
    """Return a schedule that goes on with its first tick after ``now``."""
    next_at = times_of(row).after(now)
    return replace(row, next_at=next_at, check_at=check_of(next_at, row.waiting_at, now))


def _fetch(runtime: Any, name: str) -> ScheduleRow:
    _check_name(name)
    row: ScheduleRow | None = runtime.store.get_schedule(name)
    if row is None:
        raise ScheduleNotFound(f"there is no schedule {name!r}", name=name)
    return row


def _check_name(name: Any) -> None:
    check_text("a schedule's name", name)
    if not 1 <= len(name) <= _LONGEST_NAME or "\x00" in name:
        raise ValueError(
            f"a schedule's name has 1 to {_LONGEST_NAME} characters and no NUL; {name[:40]!r} does not fit"
        )


def _check_request(request: StartRequest) -> None:
    """Refuse what a schedule decides itself; each instance has an id and a time of its own."""
    if request.instance_id is not None:
        raise ValueError("a scheduled signature cannot have a task_id: the schedule names its instances")
    if request.start_at is not None:
        raise ValueError("a scheduled signature cannot have a countdown or an eta: the schedule's times are its own")


def _timing(app: Celery, cron: Any, interval: Any, tz: Any) -> tuple[str | None, int | None, str]:
    if (cron is None) == (interval is None):
        raise ValueError(
            f"a schedule has either cron= or interval=, and this one has {'neither' if cron is None else 'both'}"
        )
    zone = _zone_name(app.conf.timezone or "UTC" if tz is None else tz)
    if interval is None:
        return cron_text(cron), None, zone
    every = _length(interval, "interval")
    if every < _SHORTEST:
        raise ValueError(f"an interval is 0.1 seconds or longer, not {interval!r}")
    return None, every, "UTC"


def _length(value: Interval, what: str) -> int:
    micros = in_microseconds(value, what)
    if micros > _LONGEST:
        raise ValueError(f"{what} is at most 100 years, not {value!r}")
    return micros


def _zone_name(tz: Any) -> str:
    name = tz if isinstance(tz, str) else getattr(tz, "key", None) or str(tz)
    zone_of(name)
    return name


def _moves_too_fast(name: str) -> DurableError:
    return DurableError(f"schedule {name!r} changes too fast to be changed; try again", name=name)


def _moment(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)
