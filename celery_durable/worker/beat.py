"""``beat_schedule`` without beat: each entry is a schedule in the store (``durable_beat``).

A worker that starts declares its entries, and writes those that are new or changed. One that no
living worker declares any more is found by whichever worker looks: it waits, and is not deleted, so
that two releases side by side do not undo each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from numbers import Real
from typing import Any

from celery import Celery
from celery.schedules import BaseSchedule, crontab, schedule

from ..engine.schedules import undeclare
from ..errors import ConfigurationError
from ..handles.declare_schedule import check_request, declare_schedule
from .runtime import Runtime
from .sending import NamedTask
from .ticks import tick_request_of

__all__ = ["BeatSchedules", "name_of_entry"]

_CATCH_UP = 60
_POLL_INTERVAL = 10.0  # seconds between two looks at what others declare
_LONGEST_NAME = 100


def name_of_entry(app: Celery, key: str) -> str:
    """Return the name of the schedule that an entry of ``beat_schedule`` is."""
    return f"beat:{app.main or 'app'}:{key}"


@dataclass(slots=True)
class BeatSchedules:
    """The entries of ``beat_schedule`` of this worker, as schedules.

    Raises:
        ConfigurationError: one of them cannot be a schedule; the text names it.
    """

    app: Celery
    runtime: Runtime
    #: By the name of the schedule what ``declare_schedule`` is given.
    _entries: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _next_poll: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        for key, entry in dict(self.app.conf.beat_schedule or {}).items():
            name = name_of_entry(self.app, key)
            try:
                self._entries[name] = self._read(name, entry)
            except (TypeError, ValueError, ConfigurationError) as error:
                raise ConfigurationError(
                    f"durable_beat: entry {key!r} of beat_schedule cannot be a schedule: {error}"
                ) from error

    def _read(self, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        if len(name) > _LONGEST_NAME:
            raise ValueError(f"its name {name!r} is longer than {_LONGEST_NAME} characters")
        if not isinstance(entry, Mapping) or not isinstance(entry.get("task"), str):
            raise TypeError("it has no name of a task")
        task = self.app.tasks.get(entry["task"]) or NamedTask(self.app, entry["task"])
        options = {**(entry.get("options") or {})}
        request = tick_request_of(
            self.runtime, task, entry.get("args") or (), entry.get("kwargs") or {}, options
        )
        check_request(request)
        return {"request": request, **dict(_times(entry.get("schedule")))}

    def declare(self) -> None:
        """Say what this worker declares, and bring the schedules to it; a paused one stays so.

        Raises:
            StoreError: the store cannot be reached.
        """
        assert self.runtime.worker_id is not None
        # first, so that no other worker takes them for undeclared
        self.runtime.store.workers.declare(self.runtime.worker_id, list(self._entries))
        for name, entry in self._entries.items():
            declare_schedule(
                self.app,
                name,
                tz=None,
                overlap="allow",
                catch_up=_CATCH_UP,
                jitter=0,
                is_declared=True,
                **entry,
            )

    def poll(self) -> None:
        """Now and then: declare again what this worker was forgotten with, and let those wait that
        no living worker declares.

        Raises:
            StoreError: the store cannot be reached.
        """
        now = time.monotonic()
        if now < self._next_poll:
            return
        store, worker = self.runtime.store, self.runtime.worker_id
        declared, has_declared = store.workers.declared_by(worker or "")
        if not has_declared:
            self.declare()
            declared, _ = store.workers.declared_by(worker or "")
        for name in store.schedules.declared():
            if name not in declared and (row := store.schedules.get(name)) is not None:
                undeclare(store, row)
        self._next_poll = now + _POLL_INTERVAL


def _times(when: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(when, crontab):
        yield from (("cron", when), ("interval", None))
    elif isinstance(when, timedelta) or (isinstance(when, Real) and not isinstance(when, bool)):
        yield from (("cron", None), ("interval", when))
    elif isinstance(when, schedule) and type(when).is_due is schedule.is_due:
        yield from (("cron", None), ("interval", when.run_every))
    else:
        kind = type(when).__name__
        known = "one of Celery's that is no crontab" if isinstance(when, BaseSchedule) else kind
        raise TypeError(
            f"its schedule is {known} ({kind}); a crontab, schedule, timedelta or number of seconds"
            " is needed"
        )
