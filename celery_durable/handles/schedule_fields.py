"""What the store knows of a schedule, as attributes of its handle."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ..core.times import EPOCH

if TYPE_CHECKING:
    from ..engine.due import Overlap, ScheduleRow

__all__ = ["ScheduleFields"]


class ScheduleFields:
    """Status fields, as they were when the schedule was last read."""

    _row: ScheduleRow

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
        """The crontab line: minute, hour, day of month, month, day of week.

        None if it has an interval.
        """
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
        return None if self.is_undeclared else _moment(self._row.next_at)

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
        """Whether it is paused, also as undeclared."""
        return self._row.is_paused or self.is_undeclared

    @property
    def is_undeclared(self) -> bool:
        """Whether it is an entry of ``beat_schedule`` that no living worker declares any more.

        See ``durable_beat``.
        """
        return self._row.is_declared is False

    @property
    def state(self) -> str:
        """What it does: "active", "paused" or "undeclared"."""
        if self.is_undeclared:
            return "undeclared"
        return "paused" if self._row.is_paused else "active"

    @property
    def reason(self) -> str | None:
        """Why it is paused."""
        if self._row.reason is None and self.is_undeclared:
            return "no living worker declares it in beat_schedule"
        return self._row.reason


def _moment(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)
