"""Changing parts of a schedule: what is not named stays as it is, options of its signature
included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..core.guard import refuse_inside_orchestrator
from ..core.names import check_reason
from ..engine.audit import HIDDEN, SCHEDULE
from ..errors import InvalidState
from .declare_schedule import check_request, sample_of, times_in
from .schedule import TRIES, Schedule, find_schedule, moves_too_fast, row_of_schedule
from .schedule_rows import paused, planned, resumed

if TYPE_CHECKING:
    from celery import Celery

    from ..engine.due import ScheduleRow
    from ..engine.runtime import Runtime
    from ..engine.start import StartRequest
    from ..engine.writes import NewInstance

__all__ = ["ScheduleEdit", "edit_schedule"]


@dataclass(frozen=True)
class ScheduleEdit:
    """What of a schedule is to be another; None stays."""

    #: Of what it starts. The same task keeps its options (queue, link, ...); another one has those
    #: of the request.
    request: StartRequest | None = None
    #: A crontab line, an interval (seconds or ``timedelta``), or neither: the times stay.
    cron: str | None = None
    interval: Any = None
    tz: str | None = None
    #: ``overlap``, ``catch_up`` and ``jitter``, those in microseconds.
    limits: Mapping[str, Any] | None = None
    is_paused: bool | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """What the audit trail keeps of it."""
        given = {"cron": self.cron, "interval": self.interval, "tz": self.tz}
        what = self.request and {"orchestrator": self.request.name, "input": HIDDEN}
        return {**given, **(what or {}), **(self.limits or {}), "paused": self.is_paused}


def edit_schedule(
    app: Celery, name: str, edit: ScheduleEdit, reason: str | None = None
) -> Schedule:
    """Change parts of a schedule.

    Its times begin again only if they changed.

    Raises:
        ScheduleNotFound: there is none.
        InvalidState: it is an entry of ``beat_schedule``, which workers declare.
        ValueError: the definition cannot be used; nothing was changed.
        PayloadError: an argument cannot be encoded.
        StoreError: the store cannot be reached.
    """
    refuse_inside_orchestrator("edit_schedule()")
    check_reason(reason)
    runtime: Runtime = app.durable.runtime
    store, sample = runtime.store, None
    if edit.request is not None:
        check_request(edit.request)
        sample = sample_of(runtime, edit.request)
    with runtime.client.auditor.around(SCHEDULE, name, "change", reason, edit.shown):
        for _ in range(TRIES):
            schedule = find_schedule(app, name)
            old = row_of_schedule(schedule)
            new = _edited(app, old, edit, sample, store.now(), reason)
            if new == old:
                return schedule
            if store.schedules.change(new):
                return schedule.refresh()
        raise moves_too_fast(name)


def _edited(
    app: Celery,
    row: ScheduleRow,
    edit: ScheduleEdit,
    sample: NewInstance | None,
    now: int,
    reason: str | None,
) -> ScheduleRow:
    if row.is_declared is not None:
        raise InvalidState(
            f"schedule {row.name!r} is an entry of beat_schedule, which workers declare when they"
            " start: change it there"
        )
    old = row
    if sample is not None:
        row = replace(row, input=sample.input)
        if sample.name != old.orchestrator:
            row = replace(row, orchestrator=sample.name, canvas=sample.canvas, queue=sample.queue)
    row = _timed(app, replace(row, **(edit.limits or {})), edit, now)
    if edit.is_paused is not None:
        row = paused(row, reason) if edit.is_paused else resumed(row, now)
    return row if row == old else replace(row, updated_at=now)


def _timed(app: Celery, row: ScheduleRow, edit: ScheduleEdit, now: int) -> ScheduleRow:
    """Return a schedule with the times of an edit, counted from now if they are others."""
    cron, interval = edit.cron, edit.interval
    if cron is None and interval is None:
        if edit.tz is None or row.cron is None:
            return row
        cron = row.cron
    line, every, zone = times_in(app, cron, interval, row.timezone if edit.tz is None else edit.tz)
    if (line, every, zone) == (row.cron, row.every, row.timezone):
        return row
    row = replace(row, cron=line, every=every, timezone=zone, anchor_at=now)
    return row if row.is_paused else planned(row, now)
