"""Recovery: the loop that re-creates every message which should exist and does not.

It looks only at rows whose ``check_at`` is due. A message is sent again where this worker has spare room on the message's
queue, which proves that the broker has nothing there; without that proof, only after a long and growing time. So the
number of copies is bounded by construction, and copies claim before they run.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from celery.exceptions import WorkerLostError

from ..conf import Settings
from ..core.replay import Codec
from ..core.status import RuntimeStatus
from ..errors import ActivityInterrupted, ActivityTimeout, DurableError
from .decisions import new_execution_id
from .effects import counted_crashes, is_begun
from .entities import entity_of
from .flow import AdmissionStore
from .protocols import Publisher
from .records import (
    ActivityRow,
    ActivityTicket,
    DueActivity,
    DueWake,
    InboxKind,
    Look,
    NewInstance,
    Outcome,
    Recorded,
    TurnAddress,
)
from .registry import Registry
from .schedules import ScheduleStore, run_due_schedules
from .turn import TurnRunner

__all__ = ["Recovery", "RecoveryStore", "Room"]

log = logging.getLogger("celery_durable.recovery")
_SECOND = 1_000_000
_LONGEST = 3_600 * _SECOND
_PLACES_INTERVAL = 60.0
_PURGE_INTERVAL = 60.0
_PURGED = 300
_ROUNDS = 4  # full batches a tick: what was not sent at once is fed to the broker in order, bounded


class RecoveryStore(ScheduleStore, AdmissionStore, Protocol):
    """What recovery needs of a store."""

    def look(self, lease: int) -> Look:
        """Tell what there is to repair: the one query of an idle second."""

    def due_wakes(self, limit: int) -> list[DueWake]:
        """Return inbox rows whose ``check_at`` has come."""

    def move_wake(self, due: DueWake, after: int | None, *, sends: int = 0) -> bool:
        """Look at the row again later; False if another sweeper was first."""

    def drop_wake(self, due: DueWake) -> None:
        """Delete a row whose instance is gone or over."""

    def due_activities(self, limit: int) -> list[DueActivity]:
        """Return outbox rows whose ``check_at`` has come."""

    def move_activity(self, due: DueActivity, after: int | None, *, sends: int = 0, is_sent: bool = False) -> bool:
        """Look at the row again later; False if another sweeper was first."""

    def free_abandoned(self, lease: int) -> int:
        """Free what silent and forgotten workers hold; return how many rows became due."""

    def beat(self, worker: str, hostname: str) -> None:
        """Say that a worker lives."""

    def mark_held(self, worker: str, tickets: Sequence[ActivityTicket]) -> None:
        """Note which activities a worker has begun to run."""

    def record_outcome(self, outcome: Outcome, *, release: bool = True) -> Recorded | None:
        """Record an outcome once."""

    def finish_join(self, execution: str, instance_id: str, join_command: int) -> bool:
        """Wake a join whose last member is in."""

    def note_waiting(self, instance_id: str, reason: str) -> None:
        """Let people see what an instance waits for."""

    def names_waiting(self, every: int) -> list[str]:
        """Return the orchestrators of which some wait, and at which nobody looked lately."""

    def free_lost_places(self) -> int:
        """Delete places that nobody has any more; return how many."""

    def purge_due(self, limit: int) -> bool:
        """Delete finished instances whose time has come; True if there may be more."""

    def turn_addresses(self, ids: Sequence[str]) -> list[TurnAddress]:
        """Return where the turns of these instances are sent."""

    def insert_instance(self, instance: NewInstance) -> bool:
        """Insert an orchestration with its start message; False if the id is taken."""


@dataclass(frozen=True)
class Room:
    """What this worker can prove about queues: the ones it consumes, if it has spare prefetch; else none."""

    queues: frozenset[str] = frozenset()

    def is_empty_queue(self, queue: str | None) -> bool:
        """Tell whether the broker is known to have nothing on the queue."""
        return bool(self.queues) and (queue is None or queue in self.queues)


@dataclass(slots=True)
class Recovery:
    """One worker's share of recovery; ``tick`` is called about once a second from a thread of its own.

    A tick in which there is nothing to do is one small query: a heartbeat or a judgement takes the place of a look,
    unless a schedule is known to be due by then.
    """

    store: RecoveryStore
    runner: TurnRunner
    publisher: Publisher
    registry: Registry
    codec: Codec
    settings: Settings
    worker_id: str
    hostname: str
    room: Callable[[], Room]
    batch: int = 500
    _beating_since: float | None = field(default=None)
    _last_beat: float = -math.inf
    _last_judgement: float = -math.inf
    _is_idle: bool = False
    _schedule_at: float = math.inf
    _next_places: float = -math.inf
    _next_purge: float = -math.inf

    def tick(
        self, held: Callable[[], Sequence[ActivityTicket]], acknowledge: Callable[[Sequence[ActivityTicket]], None]
    ) -> None:
        """Say that this worker lives, then repair what is due.

        Args:
            held: gives the activities that this worker runs now and has not marked yet.
            acknowledge: is told which of them the store now knows, so that their messages may be acknowledged.
        """
        now = time.monotonic()
        if now >= self._schedule_at:
            self._is_idle = False
        leases = (now - self._last_judgement) / self.settings.worker_lease
        if self._may_judge(now) and (leases >= 6 or (leases >= 3 and self._is_idle)):
            self._judge(now)
            if self._is_idle:
                return
        if now - self._last_beat >= self.settings.heartbeat_interval:
            self._beat(now, held, acknowledge)
            is_idle, self._is_idle = self._is_idle, False
            if is_idle:
                return
        due = self.store.look(int(self.settings.worker_lease * _SECOND))
        nexts = [moment for moment in (due.schedule_in, due.ready_in) if moment is not None]
        self._schedule_at = now + min(nexts) / _SECOND if nexts else math.inf
        self._is_idle = not (due.has_wakes or due.has_activities or due.has_silent_workers or due.has_due_schedule)
        self._is_idle = self._is_idle and not due.has_waiting
        if due.has_due_schedule:
            horizon = int(self.settings.timer_horizon * _SECOND)
            run_due_schedules(self.store, self.registry, self.publisher, horizon, self.runner.flows)
        for _ in range(_ROUNDS):
            if not due.has_wakes or self.repair_wakes() < self.batch:
                break
        for _ in range(_ROUNDS):
            if not due.has_activities or self.repair_activities() < self.batch:
                break
        if due.has_silent_workers and self._may_judge(now):
            self._judge(now)
        self._let_in(due, now)
        if due.has_purges and now >= self._next_purge:
            is_done = any(not self.store.purge_due(_PURGED) for _ in range(_ROUNDS))
            self._next_purge = now + (_PURGE_INTERVAL if is_done else 0)

    def _let_in(self, due: Look, now: float) -> None:
        """Let in what has room and was not let in by whoever made the room; now and then, free what nobody has."""
        if (due.has_places or due.has_waiting) and now >= self._next_places:
            self._next_places = now + _PLACES_INTERVAL
            self.store.free_lost_places()
        if due.has_waiting:
            for name in self.store.names_waiting(int(0.9 * self.settings.recovery_interval * _SECOND)):
                self.runner.flows.admit(name, notes_look=True)

    def _beat(
        self,
        now: float,
        held: Callable[[], Sequence[ActivityTicket]],
        acknowledge: Callable[[Sequence[ActivityTicket]], None],
    ) -> None:
        try:
            self.store.beat(self.worker_id, self.hostname)
            tickets = held()
            if tickets:
                self.store.mark_held(self.worker_id, tickets)
                acknowledge(tickets)
        except DurableError:
            self._beating_since = None
            raise
        self._last_beat = now
        if self._beating_since is None:
            self._beating_since = now

    def _may_judge(self, now: float) -> bool:
        """Silence of others counts only after this worker could speak for a whole lease itself."""
        return self._beating_since is not None and now - self._beating_since >= self.settings.worker_lease

    def _judge(self, now: float) -> None:
        self._last_judgement = now
        if freed := self.store.free_abandoned(int(self.settings.worker_lease * _SECOND)):
            self._is_idle = False
            log.warning("%d activities of workers that went silent will run again", freed)

    # -- inbox ----------------------------------------------------------------------------------------------

    def repair_wakes(self) -> int:
        """Send the turn messages that are missing; return how many rows were looked at."""
        room, told = self.room(), set[str]()
        due = self.store.due_wakes(self.batch)
        for wake in due:
            if (
                wake.name is None
                and (entity := entity_of(wake.instance, new_execution_id(), self.publisher)) is not None
            ):
                if self.store.insert_instance(entity):  # its message was under way when it was cleaned away
                    self._wake(replace(wake, name=entity.name, queue=entity.queue))
            elif _is_left_over(wake):
                self.store.drop_wake(wake)
            elif wake.status == RuntimeStatus.SUSPENDED:
                self.store.move_wake(wake, None)
            elif wake.kind == InboxKind.JOIN and wake.wake_at is None:
                self._ask_join(wake)
            elif wake.visible_at > wake.now:
                if self.store.move_wake(wake, wake.visible_at - wake.now + 2 * _SECOND):
                    self._wake(wake, delay=wake.visible_at - wake.now)
            else:
                self._send_turn(wake, room, told)
        return len(due)

    def _ask_join(self, wake: DueWake) -> None:
        if not self.store.move_wake(wake, 30 * _SECOND):
            return
        if self.store.finish_join(wake.execution or "", wake.instance, wake.command):
            log.debug("join %d of %r was complete, but nobody had said so", wake.command, wake.instance)
            self._wake(wake)

    def _send_turn(self, wake: DueWake, room: Room, told: set[str]) -> None:
        overdue = wake.now - wake.check_at
        if wake.name not in self.registry:
            if overdue > 10 * _SECOND and self.store.move_wake(wake, 10 * _SECOND):
                self.store.note_waiting(wake.instance, f"waits for a worker that knows the orchestrator {wake.name!r}")
            return
        if not room.is_empty_queue(wake.queue) and overdue < 60 * _SECOND:
            return
        if not self.store.move_wake(wake, _back_off(wake.sends), sends=1) or wake.instance in told:
            return
        told.add(wake.instance)
        self._wake(wake)

    def _wake(self, wake: DueWake, delay: int = 0) -> None:
        due = wake.visible_at if delay else None
        self.publisher.publish_turn(
            TurnAddress(wake.instance, wake.name or "", wake.queue, wake.canvas), delay=delay, due=due
        )

    # -- outbox ---------------------------------------------------------------------------------------------

    def repair_activities(self) -> int:
        """Time out what is late, send what is lost; return how many rows were looked at."""
        room, rows = self.room(), list[ActivityRow]()
        due = self.store.due_activities(self.batch)
        for activity in due:
            if (kind := _time_out(activity)) is not None:
                self._expire(activity, kind)
            elif is_begun(activity.crashes) and activity.holder is None and not activity.is_delegated:
                self._interrupt(activity, "its worker is gone, or runs it no more")
            elif activity.holder is None and counted_crashes(activity.crashes) >= self.settings.max_activity_crashes:
                self._give_up(activity)
            elif activity.holder is not None or activity.is_delegated:
                self.store.move_activity(activity, None)
            elif self._is_first_look(activity):
                self.store.move_activity(activity, self._marking_time)
            elif self._may_send(activity, room):
                is_again = activity.sent_at is not None
                if self.store.move_activity(activity, _back_off(activity.row.sends), sends=int(is_again), is_sent=True):
                    activity.row.sends += int(is_again)
                    rows.append(activity.row)
        ends = [row for row in rows if row.kind == "finish"]
        self.runner.send_activities([row for row in rows if row.kind == "activity"])
        for row in ends:
            self.publisher.finish_again(row)
        return len(due)

    @property
    def _marking_time(self) -> int:
        """How long a worker may take to mark an activity that it runs."""
        return int((2 * self.settings.heartbeat_interval + self.settings.recovery_interval) * _SECOND)

    def _is_first_look(self, activity: DueActivity) -> bool:
        """Tell whether a worker may have begun to run it so lately that it is not marked yet: the next look knows.

        One that begins later than the first look claims before it runs, so that no look is too early twice.
        """
        if activity.sent_at is None or activity.row.sends or activity.row.kind != "activity":
            return False
        return activity.check_at < activity.sent_at + int(self.settings.resend_after * _SECOND) + self._marking_time

    def _may_send(self, activity: DueActivity, room: Room) -> bool:
        if activity.sent_at is None:
            return True
        if room.is_empty_queue(activity.row.queue) and self.publisher.knows_task(activity.row.name):
            return True
        return activity.now - activity.check_at >= 60 * _SECOND

    def _give_up(self, activity: DueActivity) -> None:
        """Take an attempt for failed that took worker after worker with it."""
        self._record(activity.row.ticket, WorkerLostError(
            f"activity {activity.row.name} of {activity.row.instance!r}: {activity.crashes} workers died while they ran it "
            "(durable_max_activity_crashes)"
        ))  # fmt: skip

    def _interrupt(self, activity: DueActivity, why: str) -> None:
        """Take an attempt for lost that must not run again."""
        row, attempt = activity.row, activity.row.ticket.attempt
        self._record(row.ticket, ActivityInterrupted(
            f"activity {row.name} (attempt {attempt}) of {row.instance!r} runs at most once and was interrupted: {why}",
            instance_id=row.instance, task=row.name, attempt=attempt,
        ))  # fmt: skip

    def _expire(self, activity: DueActivity, kind: str) -> None:
        ticket = activity.row.ticket
        if is_begun(activity.crashes):
            self._interrupt(activity, f"it ran out of its {kind}")
            return
        error = ActivityTimeout(
            f"activity {activity.row.name} (attempt {ticket.attempt}) of {activity.row.instance!r} ran out of its {kind}",
            instance_id=activity.row.instance, kind=kind, task=activity.row.name, attempt=ticket.attempt,
        )  # fmt: skip
        self._record(ticket, error)

    def _record(self, ticket: ActivityTicket, error: Exception) -> None:
        recorded = self.store.record_outcome(Outcome(ticket, self.codec.encode_failure(error), has_failed=True))
        if recorded is not None:
            log.debug("%s", error)
            self.runner.wake_after(ticket, recorded, self._publish_turn)

    def _publish_turn(self, instance_id: str) -> None:
        for address in self.store.turn_addresses([instance_id]):
            self.publisher.publish_turn(address)


def _is_left_over(wake: DueWake) -> bool:
    """Tell whether nobody will ever take it: its instance is gone or over."""
    if wake.name is None or wake.status is None:
        return wake.name is None
    is_rewind = wake.kind == InboxKind.REWIND and wake.status == RuntimeStatus.FAILED
    return RuntimeStatus(wake.status).is_terminal and not is_rewind


def _time_out(activity: DueActivity) -> str | None:
    """Return which of its limits an activity has passed."""
    limits = {
        "timeout": activity.deadline_at,
        "heartbeat_timeout": activity.beat_by if activity.holder is not None else None,
        "start_timeout": activity.start_by if activity.holder is None else None,
    }
    return next((kind for kind, moment in limits.items() if moment is not None and moment <= activity.now), None)


def _back_off(sends: int) -> int:
    return int(min(10 * _SECOND * 2 ** min(sends, 20), _LONGEST))
