"""The nominal times of schedules: fixed intervals, and crontab lines in a time zone.

All times are microseconds since the epoch, UTC. Pure: the clock is whatever moment the caller asks
about, and the rules of a time zone come from ``zoneinfo``.

A crontab line means what it means to Celery's ``crontab``: names of days and months count by their
first three letters, a range may wrap around (``22-3``), and a day must match both the day of the
month and the day of the week.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from datetime import time as wall_time
from functools import lru_cache
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from .times import EPOCH

__all__ = ["CronTimes", "Every", "Times", "checked_line", "zone_of"]

_SECOND = 1_000_000
# days: a 29 February on one day of the week, over a century without a leap day
_LONGEST_SEARCH = 41 * 366
# the most days that a month has, by its number
_LENGTHS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = r"(\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?"
_FIELD = re.compile(f"{_PART}(,{_PART})*")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES = {name: number for number, name in enumerate(_DAYS)} | {
    name: number for number, name in enumerate(_MONTHS, 1)
}


class Times(Protocol):
    """The nominal times of a schedule."""

    def after(self, moment: int) -> int:
        """Return the first time later than ``moment``."""


@dataclass(frozen=True)
class Every:
    """Fixed multiples of an interval from an anchor, before and after it."""

    #: One of the times.
    anchor: int
    #: The interval, in microseconds.
    every: int

    def after(self, moment: int) -> int:
        """Return the first time later than ``moment``."""
        return self.anchor + ((moment - self.anchor) // self.every + 1) * self.every


@dataclass(frozen=True)
class CronTimes:
    """The times at which the local clock of a time zone matches a crontab line.

    A line that names hours runs once for each local time: one that a change of the clock leaves out
    runs at the moment after the gap, one that comes twice runs the first time. A line for every
    hour goes by the clock as it shows: it runs at no time that is left out, and both times at one
    that comes twice.
    """

    #: Five fields: minute, hour, day of month, month, day of week.
    text: str
    #: The IANA name of the time zone.
    timezone: str

    def after(self, moment: int) -> int:
        """Return the first time later than ``moment``.

        Raises:
            ValueError: the line or the time zone cannot be read, or none comes within 41 years.
        """
        fields = _fields(self.text)
        today = _local(moment, zone_of(self.timezone)).date()
        for ahead in range(_LONGEST_SEARCH):
            day = today + timedelta(days=ahead)
            if fields.has_day(day):
                found = _times_of_day(self.text, self.timezone, day)
                if found and found[-1] > moment:
                    return found[bisect_right(found, moment)]
        raise ValueError(f"the crontab line {self.text!r} never comes")


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        ValueError: there is none of that name on this machine.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"there is no time zone {name!r}: use an IANA name such as 'Europe/Berlin'"
        ) from error


# -- crontab lines ---------------------------------------------------------------------------------


class _Fields(NamedTuple):
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday

    def has_day(self, day: date) -> bool:
        """Tell whether a day matches: both the day of the month and the day of the week must."""
        return (
            day.month in self.months
            and day.day in self.days
            and day.isoweekday() % 7 in self.weekdays
        )


def checked_line(text: str) -> str:
    """Return a crontab line with one space between its fields.

    Raises:
        ValueError: the line cannot be read.
    """
    text = " ".join(text.split())
    _fields(text)
    return text


@lru_cache(maxsize=256)
def _fields(text: str) -> _Fields:
    parts = text.split(" ")
    if len(parts) != 5:
        raise ValueError(
            "a crontab line has five fields (minute, hour, day of month, month, day of week),"
            f" {text!r} has {len(parts)}"
        )
    if bad := next((part for part in parts if not _FIELD.fullmatch(part)), None):
        raise ValueError(
            f"the crontab line {text!r} cannot be read: {bad!r} is no field, such as '*', '5',"
            " '1-5' or '*/15'"
        )
    minute, hour, day, month, weekday = parts
    try:
        fields = _Fields(
            _numbers(minute, 0, 59),
            _numbers(hour, 0, 23),
            _numbers(day, 1, 31),
            _numbers(month, 1, 12),
            _numbers(weekday, 0, 6),
        )
    except ValueError as error:
        raise ValueError(f"the crontab line {text!r} cannot be read: {error}") from error
    if not any(day <= _LENGTHS[month] for day in fields.days for month in fields.months):
        raise ValueError(f"the crontab line {text!r} never comes: no such month has such a day")
    return fields


def _numbers(field: str, least: int, most: int) -> frozenset[int]:
    """Return the numbers that a field means, which is well formed already."""
    found = set[int]()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, is_range, last = span.partition("-")
        if span == "*":
            numbers = list(range(least, most + 1))
        elif is_range:
            numbers = _range(_number(first, least, most), _number(last, least, most), least, most)
        elif step and first.isdecimal():
            raise ValueError(f"{part!r} has a step without a range, such as '*/{step}'")
        else:
            # Celery takes a name by its first letters: the step of mon/2 counts for nothing
            numbers, step = [_number(first, least, most)], ""
        if step and int(step) == 0:
            raise ValueError(f"{part!r} has a step of 0")
        found.update(numbers[:: int(step)] if step else numbers)
    return frozenset(found)


def _range(first: int, last: int, least: int, most: int) -> list[int]:
    if last < first:  # around the end: 22-3 is 22, 23, 0, 1, 2, 3
        return [*range(first, most + 1), *range(least, last + 1)]
    return list(range(first, last + 1))


def _number(text: str, least: int, most: int) -> int:
    number = int(text) if text.isdecimal() else _NAMES.get(text[:3].lower())
    if number is None:
        raise ValueError(f"{text!r} is neither a number nor the name of a day or a month")
    if not least <= number <= most:
        raise ValueError(f"{text!r} is not between {least} and {most}")
    return number


# -- local times -----------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _times_of_day(text: str, timezone: str, day: date) -> tuple[int, ...]:
    """Return the moments of one local day, in order."""
    fields, zone = _fields(text), zone_of(timezone)
    is_every_hour = len(fields.hours) == 24
    walls = (
        datetime.combine(day, wall_time(hour, minute))
        for hour in fields.hours
        for minute in fields.minutes
    )
    return tuple(
        sorted(
            {
                moment
                for wall in walls
                for moment in _moments(wall, zone, is_every_hour=is_every_hour)
            }
        )
    )


def _moments(wall: datetime, zone: ZoneInfo, *, is_every_hour: bool) -> tuple[int, ...]:
    """Return at which moments a local time runs; see ``CronTimes``."""
    shown = (wall - EPOCH.replace(tzinfo=None)) // timedelta(microseconds=1)
    before, after = (_offset(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if before == after:
        return (shown - before,)
    if before > after:  # the clock shows it twice
        return (shown - before, shown - after) if is_every_hour else (shown - before,)
    return () if is_every_hour else (_end_of_gap(shown - after, shown - before, zone),)


def _end_of_gap(before: int, after: int, zone: ZoneInfo) -> int:
    """Return the moment at which the clock is put forward, which lies after ``before`` and not
    after ``after``.
    """
    old = _offset(_local(before, zone))
    while after - before > _SECOND:
        middle = (before + after) // (2 * _SECOND) * _SECOND
        if _offset(_local(middle, zone)) == old:
            before = middle
        else:
            after = middle
    return after


def _local(moment: int, zone: ZoneInfo) -> datetime:
    return (EPOCH + timedelta(microseconds=moment)).astimezone(zone)


def _offset(local: datetime) -> int:
    offset = local.utcoffset()
    assert offset is not None
    return offset // timedelta(microseconds=1)
