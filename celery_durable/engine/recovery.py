"""Recovery: the loop that re-creates every message which should exist and does not.

A crash may fall between any two steps, so the store alone says what should be under way. Each row
that waits for a message, a worker or a moment has a time (``check_at``) at which recovery looks at
it; whatever happens as planned moves or deletes the row before. So an idle second costs one small
query, however many orchestrations there are.

Three things bring a row back to life:

* what was never sent is sent at once;
* a message that was sent is sent again only when it is lost for certain (``inquiry``): its queue
  was empty and no living worker has it. What could not be sent is tried again each second, and
  counted only when it was sent;
* what a dead worker held is freed (``membership``): it is sent again, or fails if it may not run
  twice.

The rows of inboxes stand for turns (``inbox_recovery``), those of the outbox for activities and
last messages (``outbox_recovery``). Schedules that are due, what may be admitted, and ended
instances whose retention is over are looked at in the same tick.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.ports import Codec
from ..settings import Settings
from .due import Backlog, DueActivity, DueWake, Found, Lost, Settling
from .engine import Engine
from .inbox_recovery import InboxRecovery
from .inquiry import Inquiry, Witness
from .membership import Membership
from .outbox_recovery import OutboxRecovery
from .ports import Publisher
from .records import ActivityAttemptId
from .registry import Registry
from .runtime import Runtime
from .schedules import run_due_schedules
from .store_ports import Store

__all__ = ["Recovery", "let_go"]

log: logging.Logger = logging.getLogger("celery_durable.recovery")
_SECOND = 1_000_000
_SLOTS_INTERVAL = 60.0
_PURGE_INTERVAL = 60.0
_PURGED = 300
_ARCHIVE_INTERVAL = 5.0
_LIST_INTERVAL = 60.0
_SWEEP_INTERVAL = 20.0
_SWEPT = 100
_AUDIT_INTERVAL = 3600.0
_LISTED = 2_000
_MOST_SKEW = 30
_REST = 20  # so many times as long as rows that only wait took to read, they are left alone
_SHORTEST_REST, _LONGEST_REST = 3.0, 5.0  # a longest queue that is found empty ends it
_ROUNDS = 4  # full batches of turns, or of ended instances, a tick: what is due is fed in order
_LONGEST_REPAIR = 3.0  # seconds in a tick
_NOTHING: Found[Any] = Found(0, [])


@dataclass(slots=True)
class Recovery:
    """One worker's share of recovery.

    ``tick`` is called about once a second from a thread of its own. A tick in which there is
    nothing to do is one small query: a heartbeat, or a look for silent workers, takes the place of
    the look at rows, unless a schedule is known to be due by then.
    """

    store: Store
    runner: Engine
    publisher: Publisher
    registry: Registry
    codec: Codec
    settings: Settings
    worker_id: str
    hostname: str
    witness: Witness
    #: Makes the error of an attempt whose workers died, of the text: its type is stored.
    worker_lost: Callable[[str], Exception]
    #: How many rows are looked at together.
    batch: int = 500
    #: Has what is due archived and deleted, by a thread of its own; where that is set, nothing is
    #: deleted here.
    wake_archive: Callable[[], None] | None = None
    inquiry: Inquiry = field(init=False)
    membership: Membership = field(init=False)
    inboxes: InboxRecovery = field(init=False)
    outbox: OutboxRecovery = field(init=False)
    settling: Settling = field(default_factory=Settling, init=False)
    _last_poll: tuple[int, float] | None = field(default=None, init=False)
    #: Whether the last look found nothing to do.
    _is_idle: bool = field(default=False, init=False)
    #: Until when, by this process's clock, nothing is known to become due by itself.
    _schedule_at: float = field(default=math.inf, init=False)
    #: Until when, by this process's clock, nothing is asked of those that only wait for a worker.
    _rests_until: float = field(default=-math.inf, init=False)
    _no_rest_until: float = field(default=-math.inf, init=False)
    #: Until when the rows of inboxes are not read, as all that were due only waited.
    _wakes_rest_until: float = field(default=-math.inf, init=False)
    #: What is lost, as far as it was known when it was asked last.
    _lost: Lost = field(default_factory=Lost, init=False)
    #: Whether the last look found nothing to do but to wait.
    _is_calm: bool = field(default=False, init=False)
    _next_slots: float = field(default=-math.inf, init=False)
    _next_purge: float = field(default=-math.inf, init=False)
    _next_list: float = field(default=-math.inf, init=False)
    _next_audit: float = field(default=-math.inf, init=False)
    _next_sweep: float = field(default=-math.inf, init=False)
    _keeps_audit: int | None = field(init=False)

    def __post_init__(self) -> None:
        self._keeps_audit = self.settings.audit_kept
        self.inquiry = Inquiry(
            self.store.workers,
            self.witness,
            self.worker_id,
            int(self.settings.worker_lease * _SECOND),
        )
        self.membership = Membership(
            self.store.workers, self.settings, self.worker_id, self.hostname, _monotonic
        )
        self.inboxes = InboxRecovery(self.store, self.publisher, self.registry)
        self.outbox = OutboxRecovery(
            self.store, self.runner, self.publisher, self.codec, self.settings, self.worker_lost
        )

    def tick(
        self,
        running: Callable[[], Collection[ActivityAttemptId]],
        acknowledge: Callable[[Collection[ActivityAttemptId]], None],
    ) -> None:
        """Say that this worker lives, then repair what is due.

        Args:
            running: gives the activities whose messages this worker has, or runs now.
            acknowledge: is told which activities the store knows to be run here: their messages may
                be acknowledged.
        """
        now = time.monotonic()
        if now >= self._schedule_at:
            self._is_idle = self._is_calm = False
        if self.membership.is_eviction_due(now, is_idle=self._is_idle):
            self._evict()
            if self._is_idle:
                return
        if self.membership.is_heartbeat_due(now):
            self.membership.heartbeat(now)
            may_wait = self._is_idle or self._is_calm
            self._is_idle = self._is_calm = False
            if may_wait:
                return
        due = self.store.recovery.read_backlog(
            int(self.settings.worker_lease * _SECOND), self.worker_id
        )
        self._meet_clock(due.now)
        nexts = [moment for moment in (due.schedule_in, due.ready_in) if moment is not None]
        self._schedule_at = now + min(nexts) / _SECOND if nexts else math.inf
        is_quiet = not (due.has_wakes or due.has_silent_workers or due.has_due_schedule)
        is_quiet = is_quiet and not (due.has_waiting or due.has_lifted or due.has_limited)
        self._is_idle = is_quiet and not (due.has_activities or due.has_claimed)
        if due.has_claimed or self.membership.has_suspects:
            held = self.store.workers.claimed_by(self.worker_id)
            self.membership.free_not_run(held, set(running()))
            acknowledge(held)
        if due.has_due_schedule:
            run_due_schedules(self.runner.starter)
        if due.has_lifted:
            self.store.switches.release(self.batch)
        self._repair(due, now)
        self._is_calm = is_quiet and not due.has_others and now < self._rests_until
        if due.has_silent_workers:
            self._evict()
        self._admit(due, now)
        if due.has_purges and now >= self._next_purge:
            self._next_purge = now + self._purge()
        if self._keeps_audit is not None and now >= self._next_audit:
            may_be_more = self.store.audit.drop_old(self._keeps_audit)
            self._next_audit = now + (0 if may_be_more else _AUDIT_INTERVAL)
        if self.settings.payload_store is not None and now >= self._next_sweep:
            self._next_sweep = now + _SWEEP_INTERVAL
            if self.store.large_payloads.sweep(_SWEPT):
                self._next_sweep = now
        if now >= self._next_list:
            may_be_more = self.store.upkeep.list_lasting(_LISTED)
            self._next_list = now + (0 if may_be_more else _LIST_INTERVAL)

    def _purge(self) -> float:
        """Delete what is due, or have it archived first; return in how many seconds to look
        again.
        """
        if self.settings.archive is not None:
            if self.wake_archive is not None:
                self.wake_archive()
            return _ARCHIVE_INTERVAL
        is_done = any(not self.store.cleanup.purge_due(_PURGED) for _ in range(_ROUNDS))
        return _PURGE_INTERVAL if is_done else 0

    def _repair(self, due: Backlog, now: float) -> None:
        """Read what is due, and do what it needs.

        What merely waits in a long queue is due for as long as it waits. While there is such a
        queue, whether it is lost is asked now and then, or when the longest queue is found empty;
        turns that are late, and may be lost on another one, are asked for each time.
        """
        if not (due.has_wakes or due.has_activities):
            self.inquiry.rest()
            return
        is_resting = now < self._rests_until and self.inquiry.watch(due.now)
        is_resting = is_resting and not (due.has_wakes and self.inquiry.has_empty)
        has_turned = self.inquiry.has_turned
        if not is_resting:
            self._lost = self.inquiry.advance(due.now)
        if has_turned or self.inquiry.has_turned:
            # until all workers have said whether they have what is not on the queue any more
            self._rests_until, self._no_rest_until = now, now + _LONGEST_REST
        began = time.monotonic()
        reads_wakes = due.has_wakes and not (is_resting and now < self._wakes_rest_until)
        reads_outbox = bool(due.has_others if is_resting else due.has_activities)
        found = self._in_batches(reads_wakes, reads_outbox)
        if reads_wakes:
            self._wakes_rest_until = now + (0 if found else _rest_since(began))
        has_backlog = self.inquiry.longest is not None and self.inquiry.has_testified
        if not (is_resting or found) and has_backlog and now >= self._no_rest_until:
            # where it reads all that waits, it reads them the more rarely, the longer that takes
            reads_all = due.has_others is None
            rest = max(_SHORTEST_REST, _rest_since(began)) if reads_all else _LONGEST_REST
            self._rests_until = now + rest

    def _in_batches(self, reads_wakes: bool, reads_outbox: bool) -> int:
        """Repair batch after batch, as long as they are full; bounded, as this process has other
        things to do. Return how many rows were looked at.
        """
        lost, found, end = self._lost, 0, time.monotonic() + _LONGEST_REPAIR
        rounds = itertools.count(1)
        of_turns = lost.of_turns(self.publisher.turn_queue_of)
        while (reads_wakes or reads_outbox) and (not found or time.monotonic() < end):
            turns = self.inboxes.find(self.batch, of_turns) if reads_wakes else _NOTHING
            activities = self.outbox.find(self.batch, lost) if reads_outbox else _NOTHING
            found += turns.looked_at + activities.looked_at
            if self._settles(turns.lacking, activities.lacking):
                break
            self.inboxes.send(turns.lacking)
            self.outbox.send(activities.lacking)
            reads_wakes = turns.looked_at >= self.batch and next(rounds) < _ROUNDS
            # what none of this worker's tasks can run is left to others, and stays where it is
            reads_outbox = activities.looked_at >= self.batch and bool(activities.lacking)
        return found

    def _settles(self, turns: Sequence[DueWake], activities: Sequence[DueActivity]) -> bool:
        """Tell whether a loss in bulk is left to a later look; what was never sent is not lost."""
        lost = [wake.now for wake in turns if wake.sends >= 0]
        lost += [activity.now for activity in activities if activity.sent_at is not None]
        if len(lost) < self.batch:
            return False
        latest, rows = self._lost.latest, self.store.recovery
        return self.settling.holds(
            lost[0], lambda: rows.has_fresh_activities(latest) or rows.has_fresh_wakes(latest)
        )

    def _admit(self, due: Backlog, now: float) -> None:
        """Admit what has room, where the process that made the room could not.

        Now and then, free slots that no instance has any more.
        """
        is_waiting = due.has_waiting or due.has_limited
        if (due.has_slots or is_waiting) and now >= self._next_slots:
            self._next_slots = now + _SLOTS_INTERVAL
            self.store.admission.free_lost_slots()
            self.store.limits.free_lost()
        every = int(0.9 * self.settings.recovery_interval * _SECOND)
        if due.has_waiting:
            for name in self.store.admission.names_waiting(every):
                self.runner.admission.admit(name, notes_try=True)
        if due.has_limited and self.store.limits.is_due(every):
            self.runner.dispatcher.admit(notes_try=True)

    def _evict(self) -> None:
        if self.membership.evict_stale_workers():
            self._is_idle = False

    def _meet_clock(self, store_now: int) -> None:
        """Notice that the store's clock was set back: what recovery was to look at would wait until
        it is that late again.
        """
        now, last = time.monotonic(), self._last_poll
        self._last_poll = store_now, now
        if last is not None and store_now < last[0] + (now - last[1] - _MOST_SKEW) * _SECOND:
            log.warning(
                "the clock of the store was set back; nothing waits for recovery longer than %d s",
                _MOST_SKEW,
            )
            self.store.recovery.check_sooner(_MOST_SKEW * _SECOND)

    # -- rows --------------------------------------------------------------------------------------

    def repair_wakes(self) -> int:
        """Send all turn messages that may be missing; return how many rows were looked at."""
        return self.inboxes.repair(self.batch)

    def repair_activities(self) -> int:
        """Time out what is late, send all that may be lost; return how many rows were looked at."""
        return self.outbox.repair(self.batch)


def let_go(runtime: Runtime, worker_lost: Callable[[str], Exception], batch: int = 500) -> None:
    """Let what lifted pauses hold go on at once: where this process runs what it sends, no worker's
    recovery does.
    """
    runner, publisher = runtime.runner, runtime.publisher
    inboxes = InboxRecovery(runtime.store, publisher, runtime.registry)
    outbox = OutboxRecovery(
        runtime.store, runner, publisher, runtime.codec, runtime.settings, worker_lost
    )
    with publisher.at_once():
        while runtime.store.switches.release(batch):
            inboxes.repair(batch)
            outbox.repair(batch)
        runner.dispatcher.admit()


def _rest_since(began: float) -> float:
    return min(_REST * (time.monotonic() - began), _LONGEST_REST)


def _monotonic() -> float:
    return time.monotonic()
