"""Schedules: what a due one does, and the pass that does it. Its moments come from ``core.cron``.

All times are microseconds since the epoch, UTC, by the store's clock. A tick is named by its
nominal time, which the instance's id carries; the worker that comes first starts it, in the
transaction that moves the schedule on.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import timedelta

from .._errors import StoreError
from ..core.canvas_options import CanvasOptions
from ..core.cron import CronTimes, Every, Times
from ..core.history import EventKind
from ..core.ports import Codec
from ..core.times import EPOCH
from .draft import new_execution_id
from .due import DueSchedule, Move, ScheduleRow
from .start import Starter
from .store_ports import Store
from .writes import CHECK_MESSAGE_AFTER, EXPIRES, NewInbox, NewInstance

__all__ = [
    "check_of",
    "instance_of",
    "jitter_of",
    "next_move",
    "run_due_schedules",
    "tick_id",
    "times_of",
    "undeclare",
]

log: logging.Logger = logging.getLogger("celery_durable.schedules")
_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_LATENESS = 10 * _SECOND  # how late a tick may be seen while workers live: it is not missed
_POLL_INTERVAL = _SECOND  # while a tick waits for the instance before it
_LATER = 10 * _SECOND  # for a schedule that cannot be moved here
_MOST_TICKS = 100  # of one schedule in one transaction
_MOST_SCHEDULES = 500


def jitter_of(name: str, tick: int, most: int) -> int:
    """Return from 0 to ``most`` microseconds, always the same for one tick of one schedule."""
    drawn = int.from_bytes(hashlib.sha256(tick_id(name, tick).encode()).digest()[:8], "big")
    return drawn * most >> 64


def tick_id(name: str, tick: int) -> str:
    """Return the instance id of a tick: the schedule's name, and the nominal time in UTC."""
    return f"{name}@{(EPOCH + timedelta(microseconds=tick)).isoformat()}"


# -- rows ------------------------------------------------------------------------------------------


def times_of(row: ScheduleRow) -> Times:
    """Return the nominal times of a schedule."""
    if row.cron is not None:
        return CronTimes(row.cron, row.timezone)
    assert row.every is not None
    return Every(row.anchor_at, row.every)


def check_of(next_at: int | None, waiting_at: int | None, now: int) -> int | None:
    """Return when a pass looks at a schedule next."""
    looks = (next_at, None if waiting_at is None else now + _POLL_INTERVAL)
    return min((look for look in looks if look is not None), default=None)


def next_move(row: ScheduleRow, now: int, *, is_running: bool) -> Move:
    """Decide about the ticks that are due, in order.

    At most 100 at a time, and the others stay due.
    """
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
    """Return the ticks to deal with now, and the one after them.

    Older ones than ``catch_up`` are passed over.
    """
    times, tick, ticks = times_of(row), row.next_at, list[int]()
    oldest = now - max(row.catch_up, _LATENESS)
    if tick is not None and tick < oldest:
        tick = times.after(oldest - 1)
    while tick is not None and tick <= now and len(ticks) < _MOST_TICKS:
        ticks.append(tick)
        tick = times.after(tick)
    return ticks, tick


def instance_of(
    row: ScheduleRow, instance_id: str, version: str | None, codec: Codec, start: int
) -> NewInstance:
    """Return an orchestration that a schedule starts.

    Args:
        row: the schedule.
        instance_id: of the new orchestration.
        version: of its code.
        codec: of what is stored.
        start: when it is to start, in microseconds: it expires so long after that.

    Raises:
        PayloadError: the stored options are damaged.
    """
    canvas, expires = row.canvas, None
    if CanvasOptions.may_have(canvas, "expires"):
        options, expires = CanvasOptions.read(codec, canvas).of_tick(start)
        canvas = codec.encode(dict(options.kept)) if options.kept else None
    return NewInstance(
        instance_id,
        new_execution_id(),
        row.orchestrator,
        version,
        row.input,
        row.queue,
        canvas,
        check_after=CHECK_MESSAGE_AFTER,
        facts=None if expires is None else {EXPIRES: expires},
    )


# -- the pass --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pass:
    starter: Starter
    #: What living workers declare of ``beat_schedule``; None before it was asked for.
    _declared: frozenset[str] | None = None

    def take(self, due: DueSchedule) -> None:
        """Move one schedule on, and send what that started."""
        row, parts = due.row, self.starter.parts
        if row.is_declared and not self._declares(row.name):
            undeclare(parts.store, row)
            return
        if not parts.versions.has_code(row.orchestrator, row.canvas):
            self._leave_to_others(due)
            return
        move = next_move(row, due.now, is_running=due.is_running)
        instances = [self._instance(due, tick) for tick in move.starts]
        request = _cancel_request(row) if move.cancels_last else None
        started = parts.store.schedules.advance(row, move, instances, request)
        if started is None:
            return
        # committed: whatever is not sent now, recovery sends when its time has come
        for new in started:
            self.starter.announce(new, due.now)
        if request is not None:
            for address in parts.store.reads.turn_addresses([request.instance]):
                parts.publisher.publish_turn(address)

    def _instance(self, due: DueSchedule, tick: int) -> NewInstance:
        row = due.row
        instance_id = tick_id(row.name, tick)
        versions = self.starter.parts.versions
        version, definition = versions.of_schedule(row.orchestrator, instance_id, row.canvas)
        start_at = tick + jitter_of(row.name, tick, row.jitter)
        codec = self.starter.parts.codec
        new = instance_of(row, instance_id, version, codec, max(start_at, due.now))
        if start_at > due.now:
            new.start_at = start_at
        return self.starter.complete(new, definition, now=due.now)

    def _declares(self, name: str) -> bool:
        if self._declared is None:
            self._declared, _ = self.starter.parts.store.workers.declared_by()
        return name in self._declared

    def _leave_to_others(self, due: DueSchedule) -> None:
        """Let a worker have it that knows the orchestrator.

        Look less often if there seems to be none.
        """
        row = due.row
        if (
            row.check_at is not None
            and due.now - row.check_at > _LATER
            and self.starter.parts.store.schedules.postpone(row, _LATER)
        ):
            log.warning(
                "schedule %r waits for a worker that knows the orchestrator %r",
                row.name,
                row.orchestrator,
            )


def undeclare(store: Store, row: ScheduleRow) -> None:
    """Let a schedule of ``beat_schedule`` wait that no living worker declares any more.

    It keeps the time of its next tick: if a worker declares it again, as when the only one was
    restarted, no tick is lost that ``catch_up`` would make up for.

    Raises:
        StoreError: the store cannot be reached.
    """
    if store.schedules.change(replace(row, is_declared=False, check_at=None)):
        log.warning("schedule %r is paused: no living worker declares it any more", row.name)


def run_due_schedules(starter: Starter) -> None:
    """Start what is due, once among all workers.

    A schedule that cannot be computed holds no other up.

    Args:
        starter: creates the instances, in the transaction that moves their schedule on.

    Raises:
        StoreError: the store cannot be reached.
    """
    one_pass, store = _Pass(starter), starter.parts.store
    for due in store.schedules.due(_MOST_SCHEDULES):
        try:
            one_pass.take(due)
        except StoreError as error:
            if not error.is_permanent:
                raise
            _set_aside(store, due, error)
        except Exception as error:
            _set_aside(store, due, error)


def _set_aside(store: Store, due: DueSchedule, error: Exception) -> None:
    if store.schedules.postpone(due.row, _MINUTE):
        log.error(
            "schedule %r cannot be run, it is tried again in a minute: %s", due.row.name, error
        )


def _cancel_request(row: ScheduleRow) -> NewInbox:
    assert row.last_id is not None
    facts = {"reason": f"the next tick of the schedule {row.name!r} came"}
    return NewInbox(
        row.last_id,
        EventKind.CANCEL_REQUESTED,
        "cancel",
        facts=facts,
        check_after=CHECK_MESSAGE_AFTER,
    )
