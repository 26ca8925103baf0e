"""Schedules: at which moments they are due, what a due one does, and the pass that does it.

All times are microseconds since the epoch, UTC, by the store's clock. A tick is named by its nominal time, which the
instance's id carries; whoever comes first starts it, in the transaction that moves the schedule on.
"""

from __future__ import annotations

import hashlib
import logging
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as wall_time
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from celery.schedules import ParseException, crontab

from ..core.context import EPOCH
from ..core.events import EventKind
from ..errors import StoreError
from .decisions import new_execution_id
from .flow import Flows
from .protocols import Publisher
from .records import NewInbox, NewInstance, TurnAddress
from .registry import Registry

__all__ = [
    "CronTimes", "DueSchedule", "Every", "Move", "Overlap", "ScheduleRow", "ScheduleStore", "Times", "check_of", "cron_text",
    "instance_of", "jitter_of", "next_move", "run_due_schedules", "tick_id", "times_of", "zone_of",
]  # fmt: skip

log = logging.getLogger("celery_durable.schedules")
Overlap = Literal["skip", "buffer", "cancel", "allow"]
_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_LATENESS = 10 * _SECOND  # how late a tick may be seen while workers live: it is not missed
_LOOK_AGAIN = _SECOND  # while a tick waits for the instance before it
_LATER = 10 * _SECOND  # for a schedule that cannot be moved here
_CHECK_AFTER = 4 * _SECOND
_MOST_TICKS = 100  # of one schedule in one transaction
_MOST_SCHEDULES = 500
_LONGEST_SEARCH = 41 * 366  # days: a 29 February on one day of the week, over a century without a leap day
_LENGTHS = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # the most days that a month has, by its number
_PART = r"(\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?"
_FIELD = re.compile(f"{_PART}(,{_PART})*")


# -- nominal times ----------------------------------------------------------------------------------------------


class Times(Protocol):
    """The nominal times of a schedule."""

    def after(self, moment: int) -> int:
        """Return the first time later than ``moment``."""


@dataclass(frozen=True)
class Every:
    """Fixed multiples of an interval from an anchor, before and after it."""

    anchor: int
    every: int

    def after(self, moment: int) -> int:
        """Return the first time later than ``moment``."""
        return self.anchor + ((moment - self.anchor) // self.every + 1) * self.every


@dataclass(frozen=True)
class CronTimes:
    """The times at which the local clock of a time zone matches a crontab line.

    A line that names hours runs once for each local time: one that a change of the clock leaves out runs at the moment after
    the gap, one that comes twice runs the first time. A line for every hour goes by the clock as it shows: it runs at
    no time that is left out, and both times at one that comes twice.
    """

    text: str
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


class _Fields(NamedTuple):
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def has_day(self, day: date) -> bool:
        """Tell whether a day matches; as in Celery, both the day of the month and the day of the week must."""
        return day.month in self.months and day.day in self.days and day.isoweekday() % 7 in self.weekdays


def cron_text(cron: object) -> str:
    """Return a crontab as a line of five fields: minute, hour, day of month, month, day of week.

    Args:
        cron: such a line, or Celery's ``crontab``.

    Raises:
        TypeError: it is something else.
        ValueError: the line cannot be read.
    """
    if isinstance(cron, crontab):
        minute, hour, weekday, day, month = cron.__reduce__()[1]
        text = " ".join(map(_field_text, (minute, hour, day, month, weekday)))
    elif isinstance(cron, str):
        text = " ".join(cron.split())
    else:
        raise TypeError(f"cron= takes a crontab line or celery.schedules.crontab, not {type(cron).__name__}")
    _fields(text)
    return text


def _field_text(value: object) -> str:
    if isinstance(value, (set, frozenset, list, tuple)):
        return ",".join(_field_text(part) for part in sorted(value, key=str))
    return "".join(str(value).split())


@lru_cache(maxsize=256)
def _fields(text: str) -> _Fields:
    parts = text.split(" ")
    if len(parts) != 5:
        raise ValueError(
            f"a crontab line has five fields (minute, hour, day of month, month, day of week), {text!r} has {len(parts)}"
        )
    if bad := next((part for part in parts if not _FIELD.fullmatch(part)), None):
        raise ValueError(
            f"the crontab line {text!r} cannot be read: {bad!r} is no field, such as '*', '5', '1-5' or '*/15'"
        )
    minute, hour, day, month, weekday = parts
    try:
        found = crontab(minute=minute, hour=hour, day_of_month=day, month_of_year=month, day_of_week=weekday)
    except (ValueError, ParseException) as error:
        raise ValueError(f"the crontab line {text!r} cannot be read: {error}") from error
    known = (found.minute, found.hour, found.day_of_month, found.month_of_year, found.day_of_week)
    fields = _Fields(*map(frozenset, known))
    if not any(day <= _LENGTHS[month] for day in fields.days for month in fields.months):
        raise ValueError(f"the crontab line {text!r} never comes: no such month has such a day")
    return fields


@lru_cache(maxsize=64)
def _times_of_day(text: str, timezone: str, day: date) -> tuple[int, ...]:
    """Return the moments of one local day, in order."""
    fields, zone = _fields(text), zone_of(timezone)
    is_every_hour = len(fields.hours) == 24
    walls = (datetime.combine(day, wall_time(hour, minute)) for hour in fields.hours for minute in fields.minutes)
    return tuple(sorted({moment for wall in walls for moment in _moments(wall, zone, is_every_hour=is_every_hour)}))


def _moments(wall: datetime, zone: ZoneInfo, *, is_every_hour: bool) -> tuple[int, ...]:
    """Return when the local clock shows a time, or stands for it; see ``CronTimes``."""
    shown = (wall - EPOCH.replace(tzinfo=None)) // timedelta(microseconds=1)
    before, after = (_offset(wall.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if before == after:
        return (shown - before,)
    if before > after:  # the clock shows it twice
        return (shown - before, shown - after) if is_every_hour else (shown - before,)
    return () if is_every_hour else (_end_of_gap(shown - after, shown - before, zone),)


def _end_of_gap(before: int, after: int, zone: ZoneInfo) -> int:
    """Return the moment at which the clock is put forward, which lies after ``before`` and not after ``after``."""
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


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        ValueError: there is none of that name on this machine.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}: use an IANA name such as 'Europe/Berlin'") from error


def jitter_of(name: str, tick: int, most: int) -> int:
    """Return from 0 to ``most`` microseconds, always the same for one tick of one schedule."""
    drawn = int.from_bytes(hashlib.sha256(tick_id(name, tick).encode()).digest()[:8], "big")
    return drawn * most >> 64


def tick_id(name: str, tick: int) -> str:
    """Return the instance id of a tick: the schedule's name, and the nominal time in UTC."""
    return f"{name}@{(EPOCH + timedelta(microseconds=tick)).isoformat()}"


# -- rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScheduleRow:
    """A schedule as it is stored; payloads are text.

    ``next_at`` is None while it is paused; ``waiting_at`` is a tick that waits for the instance before it. ``revision``
    moves on with every change, and starts at the time of creation, so that one made anew never repeats it.
    """

    name: str
    orchestrator: str
    input: str
    canvas: str | None
    queue: str | None
    cron: str | None
    every: int | None
    timezone: str
    anchor_at: int
    overlap: Overlap
    catch_up: int
    jitter: int
    is_paused: bool
    reason: str | None
    next_at: int | None
    waiting_at: int | None
    last_at: int | None
    last_id: str | None
    skipped: int
    check_at: int | None
    revision: int
    created_at: int
    updated_at: int


class DueSchedule(NamedTuple):
    """A schedule that is to be looked at, and whether the instance that it started last still runs."""

    row: ScheduleRow
    is_running: bool
    now: int


@dataclass(slots=True)
class Move:
    """What a pass does to a schedule: the ticks it starts, and where the schedule stands then."""

    next_at: int | None
    check_at: int | None
    starts: list[int] = field(default_factory=list)
    waiting_at: int | None = None
    skipped: int = 0
    cancels_last: bool = False


def times_of(row: ScheduleRow) -> Times:
    """Return the nominal times of a schedule."""
    if row.cron is not None:
        return CronTimes(row.cron, row.timezone)
    assert row.every is not None
    return Every(row.anchor_at, row.every)


def check_of(next_at: int | None, waiting_at: int | None, now: int) -> int | None:
    """Return when a pass looks at a schedule next."""
    looks = (next_at, None if waiting_at is None else now + _LOOK_AGAIN)
    return min((look for look in looks if look is not None), default=None)


def next_move(row: ScheduleRow, now: int, *, is_running: bool) -> Move:
    """Decide about the ticks that are due, in order; at most 100 at a time, and the others stay due."""
    ticks, next_at = _due_ticks(row, now)
    if row.waiting_at is not None:
        ticks.insert(0, row.waiting_at)
    move = Move(next_at, None)
    if row.overlap == "cancel" and ticks:
        move.starts, move.skipped, move.cancels_last = ticks[-1:], len(ticks) - 1, is_running
        ticks = []
    for tick in ticks:
        if row.overlap == "allow" or not is_running:
            move.starts.append(tick)
            is_running = True
        elif row.overlap == "buffer" and move.waiting_at is None:
            move.waiting_at = tick
        else:
            move.skipped += 1
    move.check_at = check_of(move.next_at, move.waiting_at, now)
    return move


def _due_ticks(row: ScheduleRow, now: int) -> tuple[list[int], int | None]:
    """Return the ticks to deal with now, and the one after them; older ones than ``catch_up`` are passed over."""
    times, tick, ticks = times_of(row), row.next_at, list[int]()
    oldest = now - max(row.catch_up, _LATENESS)
    if tick is not None and tick < oldest:
        tick = times.after(oldest - 1)
    while tick is not None and tick <= now and len(ticks) < _MOST_TICKS:
        ticks.append(tick)
        tick = times.after(tick)
    return ticks, tick


def instance_of(row: ScheduleRow, instance_id: str, version: str | None) -> NewInstance:
    """Return an orchestration that a schedule starts."""
    return NewInstance(
        instance_id, new_execution_id(), row.orchestrator, version, row.input, row.queue, row.canvas,
        check_after=_CHECK_AFTER,
    )  # fmt: skip


# -- the pass ---------------------------------------------------------------------------------------------------


class ScheduleStore(Protocol):
    """What the pass needs of a store."""

    def due_schedules(self, limit: int) -> list[DueSchedule]:
        """Return schedules whose ``check_at`` has come."""

    def advance_schedule(
        self, row: ScheduleRow, move: Move, instances: Sequence[NewInstance], wish: NewInbox | None
    ) -> list[NewInstance] | None:
        """Move a schedule on and start instances, in one transaction; return the new ones.

        None tells that the schedule has changed since it was read, and nothing was done.
        """

    def postpone_schedule(self, row: ScheduleRow, delay: int) -> bool:
        """Look at a schedule again ``delay`` microseconds from now; False if it has changed."""

    def turn_addresses(self, ids: Sequence[str]) -> list[TurnAddress]:
        """Return where the turns of these instances are sent."""


@dataclass(slots=True, frozen=True)
class _Pass:
    store: ScheduleStore
    registry: Registry
    publisher: Publisher
    horizon: int
    flows: Flows | None

    def take(self, due: DueSchedule) -> None:
        """Move one schedule on, and send what that started."""
        row = due.row
        definition = self.registry.newest(row.orchestrator)
        if definition is None:
            self._leave_to_others(due)
            return
        move = next_move(row, due.now, is_running=due.is_running)
        instances = [self._instance(row, tick, definition.version, due.now) for tick in move.starts]
        wish = _cancel_wish(row) if move.cancels_last else None
        started = self.store.advance_schedule(row, move, instances, wish)
        if started is None:
            return
        for new in started:
            self._send(new, due.now)
        if wish is not None:
            for address in self.store.turn_addresses([wish.instance]):
                self.publisher.publish_turn(address)

    def _instance(self, row: ScheduleRow, tick: int, version: str | None, now: int) -> NewInstance:
        new = instance_of(row, tick_id(row.name, tick), version)
        start_at = tick + jitter_of(row.name, tick, row.jitter)
        if start_at > now:
            new.start_at = start_at
            if start_at - now > self.horizon:
                new.check_after = -self.horizon
        if self.flows is not None:
            self.flows.dress(new, self.registry.newest(row.orchestrator))
        return new

    def _send(self, new: NewInstance, now: int) -> None:
        if self.flows is not None:
            self.flows.engine.observation.started(new)
        if new.admission is not None and self.flows is not None:
            self.flows.admit(new.name)
            return
        delay = 0 if new.start_at is None else new.start_at - now
        if delay <= self.horizon:
            address = TurnAddress(new.id, new.name, new.queue, new.canvas, new.root_id)
            self.publisher.publish_turn(address, delay=delay, due=new.start_at)

    def _leave_to_others(self, due: DueSchedule) -> None:
        """Let a worker have it that knows the orchestrator; look less often if there seems to be none."""
        row = due.row
        if row.check_at is not None and due.now - row.check_at > _LATER and self.store.postpone_schedule(row, _LATER):
            log.warning("schedule %r waits for a worker that knows the orchestrator %r", row.name, row.orchestrator)


def run_due_schedules(
    store: ScheduleStore, registry: Registry, publisher: Publisher, horizon: int, flows: Flows | None = None
) -> None:
    """Start what is due, once among all workers; a schedule that cannot be computed holds no other up.

    Args:
        store: of the schedules and the instances.
        registry: tells whether this process knows an orchestrator, and its newest version.
        publisher: of the first turns.
        horizon: how many microseconds before its time a delayed start is sent.
        flows: flow control; None knows no limits.

    Raises:
        StoreError: the store cannot be reached.
    """
    one_pass = _Pass(store, registry, publisher, horizon, flows)
    for due in store.due_schedules(_MOST_SCHEDULES):
        try:
            one_pass.take(due)
        except StoreError as error:
            if not error.is_permanent:
                raise
            _set_aside(store, due, error)
        except Exception as error:
            _set_aside(store, due, error)


def _set_aside(store: ScheduleStore, due: DueSchedule, error: Exception) -> None:
    if store.postpone_schedule(due.row, _MINUTE):
        log.error("schedule %r cannot be run, it is tried again in a minute: %s", due.row.name, error)


def _cancel_wish(row: ScheduleRow) -> NewInbox:
    assert row.last_id is not None
    facts = {"reason": f"the next tick of the schedule {row.name!r} came"}
    return NewInbox(row.last_id, EventKind.CANCEL_REQUESTED, "cancel", facts=facts, check_after=_CHECK_AFTER)
