"""The handle of a schedule: everything a client does with one that exists.

Every verb is idempotent but ``trigger``, and reads, decides and writes under a comparison: of two
at once, the later one reads again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ..core.canvas_options import CanvasOptions
from ..core.guard import refuse_inside_orchestrator
from ..core.names import check_reason, checked_text
from ..core.times import as_microseconds
from ..engine.audit import SCHEDULE
from ..engine.schedules import instance_of, tick_id, times_of
from ..errors import ConfigurationError, DurableError, InvalidState, ScheduleNotFound
from .aio import twin
from .orchestration import Orchestration
from .schedule_fields import ScheduleFields
from .schedule_rows import paused, resumed

if TYPE_CHECKING:
    from celery import Celery

    from ..engine.due import ScheduleRow
    from ..engine.runtime import Runtime

__all__ = [
    "TRIES",
    "Schedule",
    "check_name",
    "find_schedule",
    "list_schedules",
    "moves_too_fast",
    "row_of_schedule",
]

#: How often a change is tried again that another process was faster than.
TRIES = 60
_LONGEST_NAME = 100
_MOST_BACKFILLED = 10_000


class Schedule(ScheduleFields):
    """One schedule, as it was when it was last read: by the call that gave it, by a verb, or by
    ``refresh()``.

    Times are aware UTC.
    """

    def __init__(self, app: Celery, row: ScheduleRow) -> None:
        self._app = app
        self._row = row

    def __repr__(self) -> str:
        return f"<Schedule {self.name!r} of {self.orchestrator}>"

    @property
    def _runtime(self) -> Runtime:
        runtime: Runtime = self._app.durable.runtime
        return runtime

    def refresh(self) -> Schedule:
        """Read everything again.

        Raises:
            ScheduleNotFound: it was deleted.

        Example:
            >>> schedule.refresh().next_at
        """
        self._row = _fetch(self._runtime, self.name)
        return self

    # -- verbs -------------------------------------------------------------------------------------

    def pause(self, *, reason: str | None = None) -> Schedule:
        """Start nothing until ``resume``; what runs continues.

        Raises:
            ScheduleNotFound: it was deleted.

        Example:
            >>> schedule.pause(reason="stocktaking")
        """
        return self._change("pause", lambda row, now: paused(row, reason), reason)

    def resume(self) -> Schedule:
        """Go on with the next tick from now; those of the pause are not made up for.

        Raises:
            ScheduleNotFound: it was deleted.
            InvalidState: it is undeclared; a worker that declares it again lets it go on.

        Example:
            >>> schedule.resume()
        """

        def resume(row: ScheduleRow, now: int) -> ScheduleRow:
            if row.is_declared is False:
                raise InvalidState(
                    f"schedule {row.name!r} is undeclared: no living worker has it in its"
                    " beat_schedule. Start one that has; it lets the schedule go on"
                )
            return resumed(row, now)

        return self._change("resume", resume)

    def prune(self) -> bool:
        """Delete it if it is undeclared; tell whether it was.

        Example:
            >>> [schedule.name for schedule in durable.schedules() if schedule.prune()]
        """
        refuse_inside_orchestrator("prune()")
        return self._runtime.store.schedules.delete_undeclared(self.name)

    def trigger(self) -> Orchestration:
        """Start an extra instance now, whatever runs; its id is ``<name>@manual-<random>``.

        Raises:
            ScheduleNotFound: it was deleted.
            ConfigurationError: this process does not know the orchestrator.

        Example:
            >>> run = schedule.trigger()
        """
        refuse_inside_orchestrator("trigger()")
        self.refresh()
        with self._audited("trigger"):
            return self._start(f"{self.name}@manual-{uuid.uuid4().hex}")[0]

    def backfill(self, start: datetime, end: datetime) -> list[Orchestration]:
        """Start an instance for each nominal time from ``start`` to ``end``, both included, that
        has none yet.

        All begin at once: ``overlap`` and ``jitter`` do not count. A repeat starts only what is
        missing.

        Returns:
            The orchestrations that are new, oldest first.

        Raises:
            ValueError: a time is naive, ``end`` lies in the future, or there are more than 10,000
                nominal times.
            ScheduleNotFound: it was deleted.
            ConfigurationError: this process does not know the orchestrator.

        Example:
            >>> runs = schedule.backfill(datetime.now(UTC) - timedelta(days=3), datetime.now(UTC))
        """
        refuse_inside_orchestrator("backfill()")
        first, last = as_microseconds(start), as_microseconds(end)
        if last > self._runtime.store.now():
            raise ValueError(f"backfill() is for times that have passed; {end.isoformat()} has not")
        self.refresh()
        found = list[Orchestration]()
        for tick in self._ticks(first, last):
            with self._audited("backfill"):
                run, is_new = self._start(tick_id(self.name, tick))
            found += [run] if is_new else []
        return found

    def _ticks(self, first: int, last: int) -> list[int]:
        times, found = times_of(self._row), list[int]()
        tick = times.after(first - 1)
        while tick <= last:
            found.append(tick)
            if len(found) > _MOST_BACKFILLED:
                raise ValueError(
                    f"there are more than {_MOST_BACKFILLED} ticks of {self.name!r} in that time;"
                    " backfill it in portions"
                )
            tick = times.after(tick)
        return found

    def delete(self) -> None:
        """Delete the schedule; what it started continues. Without effect if it is gone already.

        Example:
            >>> schedule.delete()
        """
        refuse_inside_orchestrator("delete()")
        with self._audited("delete"):
            self._runtime.store.schedules.delete(self.name)

    # -- twins for code that runs on an event loop -------------------------------------------------

    arefresh: Final = twin(refresh)
    apause: Final = twin(pause)
    aresume: Final = twin(resume)
    aprune: Final = twin(prune)
    atrigger: Final = twin(trigger)
    abackfill: Final = twin(backfill)
    adelete: Final = twin(delete)

    def _start(self, instance_id: str) -> tuple[Orchestration, bool]:
        runtime, row = self._runtime, self._row
        versions = runtime.runner.versions
        if not versions.has_code(row.orchestrator, row.canvas):
            raise ConfigurationError(
                f"schedule {row.name!r} starts the orchestrator {row.orchestrator!r}, which this"
                " process does not know: import the module that defines it"
            )
        starter = runtime.runner.starter
        version, definition = versions.of_schedule(row.orchestrator, instance_id, row.canvas)
        start = runtime.store.now() if CanvasOptions.may_have(row.canvas, "expires") else 0
        new = instance_of(row, instance_id, version, runtime.codec, start)
        starter.complete(new, definition)
        is_new = runtime.store.starts.insert(new)
        if is_new:
            starter.announce(new)
        return Orchestration(instance_id, app=self._app), is_new

    def _change(
        self,
        verb: str,
        change: Callable[[ScheduleRow, int], ScheduleRow],
        reason: str | None = None,
    ) -> Schedule:
        refuse_inside_orchestrator(f"{verb}()")
        check_reason(reason)
        store = self._runtime.store
        with self._audited(verb, reason):
            for _ in range(TRIES):
                old = _fetch(self._runtime, self.name)
                new = change(old, store.now())
                if new is old or store.schedules.change(new):
                    return self.refresh()
            raise moves_too_fast(self.name)

    def _audited(self, verb: str, reason: str | None = None) -> AbstractContextManager[None]:
        return self._runtime.client.auditor.around(SCHEDULE, self.name, verb, reason)


# -- finding ---------------------------------------------------------------------------------------


def find_schedule(app: Celery, name: str) -> Schedule:
    """Return the handle of a schedule.

    Raises:
        ScheduleNotFound: there is none.
    """
    return Schedule(app, _fetch(app.durable.runtime, name))


def list_schedules(app: Celery) -> list[Schedule]:
    """Return all schedules, by name."""
    runtime: Runtime = app.durable.runtime
    return [Schedule(app, row) for row in runtime.store.schedules.list_all()]


def row_of_schedule(schedule: Schedule) -> ScheduleRow:
    """Return what a handle has read last."""
    return schedule._row


def _fetch(runtime: Runtime, name: str) -> ScheduleRow:
    check_name(name)
    row: ScheduleRow | None = runtime.store.schedules.get(name)
    if row is None:
        raise ScheduleNotFound(f"there is no schedule {name!r}", name=name)
    return row


def check_name(name: Any) -> None:
    """Refuse what no schedule can be called.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty or too long, or holds what no column takes.
    """
    checked_text(name, "a schedule's name", _LONGEST_NAME)


def moves_too_fast(name: str) -> DurableError:
    """Return the error of a schedule that changed between each read and write."""
    return DurableError(f"schedule {name!r} changes too fast to be changed; try again", name=name)
