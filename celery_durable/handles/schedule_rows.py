"""A schedule's row, paused and going on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..engine.schedules import check_of, times_of

if TYPE_CHECKING:
    from ..engine.due import ScheduleRow

__all__ = ["paused", "planned", "resumed"]


def planned(row: ScheduleRow, now: int) -> ScheduleRow:
    """Return a schedule whose next tick is the first one after ``now``."""
    next_at = times_of(row).after(now)
    return replace(row, next_at=next_at, check_at=check_of(next_at, row.waiting_at, now))


def paused(row: ScheduleRow, reason: str | None) -> ScheduleRow:
    """Return a schedule that starts nothing; the same if it is paused already."""
    if row.is_paused:
        return row
    return replace(row, is_paused=True, reason=reason, next_at=None, check_at=None)


def resumed(row: ScheduleRow, now: int) -> ScheduleRow:
    """Return a schedule that continues with its next tick; the same if it is not paused."""
    return planned(replace(row, is_paused=False, reason=None), now) if row.is_paused else row
