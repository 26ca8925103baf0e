"""The tables of limits of activities: attempts that wait for slots, and slots that are taken.

A slot without an end is taken as long as the outbox has its attempt: an outcome, a cancel and a
purge give it back by deleting that. A pass has one lock, the row of ``durable_limits`` without a
name, which is tried and never waited for. It takes outbox rows as far as they are free: it waits
for no turn that is about to cancel one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..core.permits import Permit
from ..engine.activity_limits import IsPaused, Numbers, Standing, Use
from ..engine.records import ActivityAttemptId, ActivityRow
from ..engine.writes import NewActivity
from . import admission, attempts, clock
from .choosing import MOST_AT_ONCE, choose
from .permit_count import PermitCount, permits_of
from .runner import Cursor, Runner
from .statements import Statement
from .timing import Timing
from .values import portions, text_of

__all__ = ["ActivityLimitRows", "insert_waiting"]

#: The name of the lock in ``durable_limits``; no orchestrator has it.
_LOCK = ""
_MOST_SHOWN = 20

# -- within the transactions of turns and outcomes -----------------------------------------------

INSERT_WAITING = Statement(
    "INSERT INTO durable_activity_waiting (execution, command, attempt, task, queue, lane,"
    " precedence, ready_at, limits) VALUES (:execution, :command, :attempt, :task, :queue, :lane,"
    " :precedence, :ready_at, :limits)"
)
LEAVE_WINDOW = Statement(
    "UPDATE durable_activity_waiting SET ready_at = :now WHERE execution = :execution AND command ="
    " :command AND attempt = :attempt"
)

# -- letting in ----------------------------------------------------------------------------------

# a scalar question is answered by the key of the outbox for each row, however large that is, and
# PostgreSQL takes it for true of nearly all
_WAITS = (
    "(SELECT o.command FROM durable_outbox o WHERE o.execution = w.execution AND o.command ="
    " w.command AND o.attempt = w.attempt AND o.gate = 'limit') IS NOT NULL"
)
_FIRST = f"w.ready_at IS NOT NULL AND {_WAITS} ORDER BY w.precedence, w.ready_at, w.id"
HEADS = Statement(
    "SELECT h.lane, h.precedence, h.ready_at, h.id, h.limits, h.task, h.queue FROM (SELECT lane"
    " FROM durable_activity_waiting WHERE ready_at IS NOT NULL GROUP BY lane) l JOIN"
    " durable_activity_waiting h ON h.id = (SELECT w.id FROM durable_activity_waiting w WHERE"
    f" w.lane = l.lane AND {_FIRST} LIMIT 1)"
)
# PostgreSQL reads every row for a GROUP BY; this steps from partition to partition
HEADS_BY_STEPS = Statement(
    "WITH RECURSIVE keys(lane) AS (SELECT MIN(lane) FROM durable_activity_waiting WHERE ready_at"
    " IS NOT NULL UNION ALL SELECT (SELECT MIN(n.lane) FROM durable_activity_waiting n WHERE"
    " n.ready_at IS NOT NULL AND n.lane > keys.lane) FROM keys WHERE keys.lane IS NOT NULL)"
    " SELECT h.* FROM keys CROSS JOIN LATERAL (SELECT w.lane, w.precedence, w.ready_at, w.id,"
    " w.limits, w.task, w.queue FROM durable_activity_waiting w WHERE w.lane = keys.lane AND"
    f" {_FIRST} LIMIT 1) h"
)
_WAITER = (
    "SELECT w.precedence, w.ready_at, w.id, w.execution, w.command, w.attempt, w.limits FROM"
    " durable_activity_waiting w WHERE"
)
PARTITION = Statement(f"{_WAITER} w.lane = :partition AND {_FIRST} LIMIT :limit")
_HAS_SLOT = (
    "(SELECT o.attempt FROM durable_outbox o WHERE o.execution = p.execution AND o.command ="
    " p.command AND o.attempt = p.attempt) IS NOT NULL"
)
TAKEN = Statement(
    "SELECT p.scope, COUNT(*), MIN(p.most), MIN(p.permit) FROM durable_activity_places p WHERE"
    f" p.expires_at > {{once}} OR (p.expires_at IS NULL AND {_HAS_SLOT}) GROUP BY p.scope"
)
INSERT_SLOT = Statement(
    "INSERT INTO durable_activity_places (execution, command, attempt, scope, permit, most,"
    " expires_at) VALUES (:execution, :command, :attempt, :scope, :permit, :most, :expires_at)"
)
DELETE_WAITING = Statement("DELETE FROM durable_activity_waiting WHERE id = :row")

# -- questions and repairs -----------------------------------------------------------------------

IS_DUE = Statement(
    "SELECT MIN(w.ready_at), COALESCE((SELECT l.looked_at FROM durable_limits l WHERE l.name ="
    " :name), 0) NOT BETWEEN {now} - :every AND {now} FROM durable_activity_waiting w WHERE"
    " w.ready_at IS NOT NULL"
)
OF_EXECUTION = Statement(
    f"{_WAITER} w.execution = :execution AND w.ready_at IS NOT NULL AND {_WAITS} ORDER BY"
    " w.command LIMIT :limit"
)
_PARTITIONS = (
    "SELECT COUNT(*), MIN(w.limits) FROM durable_activity_waiting w WHERE w.ready_at IS NOT NULL"
    f" AND {_WAITS}"
)
PARTITIONS = Statement(f"{_PARTITIONS} GROUP BY w.lane")
BY_TASK = Statement(
    "SELECT w.task, w.queue, COUNT(*) FROM durable_activity_waiting w WHERE w.ready_at IS NOT NULL"
    f" AND {_WAITS} GROUP BY w.task, w.queue"
)
PARTITIONS_BEFORE = Statement(
    f"{_PARTITIONS} AND (w.precedence < :precedence OR (w.precedence = :precedence AND"
    " (w.ready_at < :ready_at OR (w.ready_at = :ready_at AND w.id < :row)))) GROUP BY w.lane"
)
LOST_WAITING = Statement(
    f"SELECT w.id FROM durable_activity_waiting w WHERE NOT {_WAITS} ORDER BY w.id LIMIT :limit"
)
LOST_SLOTS = Statement(
    "SELECT p.id FROM durable_activity_places p WHERE p.expires_at <= {once} OR (p.expires_at IS"
    f" NULL AND NOT {_HAS_SLOT}) ORDER BY p.id LIMIT :limit"
)
DELETE_SLOT = Statement("DELETE FROM durable_activity_places WHERE id = :row")


class Head(NamedTuple):
    """The first of those that need the same slots, of one task in one queue."""

    partition: str
    precedence: int
    ready_at: int
    id: int
    limits: str
    task: str
    queue: str | None

    @property
    def order(self) -> tuple[int, int, int]:
        """Tells who comes first."""
        return self.precedence, self.ready_at, self.id


class Waiter(NamedTuple):
    """One that waits."""

    precedence: int
    ready_at: int
    id: int
    execution: str
    command: int
    attempt: int
    limits: str

    @property
    def order(self) -> tuple[int, int, int]:
        """Tells who comes first."""
        return self.precedence, self.ready_at, self.id

    @property
    def ticket(self) -> ActivityAttemptId:
        """The attempt."""
        return ActivityAttemptId(self.execution, self.command, self.attempt)


def insert_waiting(
    database: Runner, cursor: Cursor, execution: str, activities: Iterable[NewActivity], now: int
) -> None:
    """Let new attempts wait for their slots; one of a full window does so once that has room."""
    rows = [
        {
            "execution": execution,
            "command": new.command,
            "attempt": new.attempt,
            "task": new.name,
            "queue": new.queue,
            "lane": _partition_of(new),
            "precedence": -new.priority,
            "ready_at": None if new.is_held else now,
            "limits": json.dumps([list(permit) for permit in new.permits]),
        }
        for new in activities
        if new.permits
    ]
    database.run_many(cursor, INSERT_WAITING, rows)


def _partition_of(new: NewActivity) -> str:
    """Return the key of a partition: what those have in common who need the same slots, and can
    be paused together.
    """
    facts = [new.name, new.queue, sorted(list(permit) for permit in new.permits)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:40]


class ActivityLimitRows:
    """Who waits for slots, and who has some (``engine.activity_limits.ActivityLimitRows``)."""

    def __init__(self, database: Runner, timing: Timing) -> None:
        self.database = database
        self.timing = timing

    # -- letting in --------------------------------------------------------------------------------

    def may_admit(self, numbers: Numbers, is_paused: IsPaused) -> bool:
        """Tell whether one that waits has room; takes no lock."""

        def look(cursor: Cursor) -> bool:
            heads = self._heads(cursor)
            if all(is_paused(head.task, head.queue) for head in heads):
                return False
            count = self._count(cursor, numbers, heads)
            return any(
                count.room(head.limits) > 0
                for head in heads
                if not is_paused(head.task, head.queue)
            )

        return self.database.read(look)

    def admit(
        self, numbers: Numbers, is_paused: IsPaused, *, notes_try: bool = False
    ) -> list[ActivityRow] | None:
        """Admit those that have room, by priority and age; see ``engine.activity_limits``."""

        def admit(cursor: Cursor) -> list[ActivityRow] | None:
            if not admission.lock(self.database, cursor, _LOCK):
                return None
            if notes_try:
                self.database.run(cursor, admission.NOTE_TRY, name=_LOCK)
            heads = self._heads(cursor)
            if not heads:
                return []
            self._sweep(cursor)
            count = self._count(cursor, numbers, heads)
            chosen = choose(
                [head for head in heads if not is_paused(head.task, head.queue)],
                lambda one: count.room(one.limits),
                lambda partition, limit: self._partition(cursor, partition, limit),
                lambda one: count.take(one.limits),
            )
            return self._open(cursor, chosen)

        return self.database.transact(admit)

    def _heads(self, cursor: Cursor) -> list[Head]:
        statement = HEADS_BY_STEPS if self.database.family == "postgresql" else HEADS
        return [Head._make(row) for row in self.database.run(cursor, statement).fetchall()]

    def _count(self, cursor: Cursor, numbers: Numbers, heads: Iterable[Head]) -> PermitCount:
        count = PermitCount(self.database.run(cursor, TAKEN).fetchall(), numbers)
        for head in heads:
            count.heed(permits_of(head.limits))
        return count

    def _partition(self, cursor: Cursor, partition: str, limit: int) -> list[Waiter]:
        rows = self.database.run(cursor, PARTITION, partition=partition, limit=limit).fetchall()
        return [Waiter._make(row) for row in rows]

    def _open(self, cursor: Cursor, chosen: Sequence[Waiter]) -> list[ActivityRow]:
        """Let attempts in whose rows are free: a turn that holds one is about to cancel it."""
        database, found = self.database, dict[ActivityAttemptId, ActivityRow]()
        for part in portions(sorted(one.ticket for one in chosen)):
            for row in attempts.LOCK_LIMITED.run(database, cursor, part).fetchall():
                ticket, (instance, kind, name, message, *rest) = (
                    ActivityAttemptId(*row[:3]),
                    row[3:],
                )
                found[ticket] = ActivityRow(
                    ticket, instance, kind, name, text_of(message) or "", *rest
                )
        admitted = [one for one in chosen if one.ticket in found]
        now = clock.now(database, cursor)
        values = {"now": now, "later": now + self.timing.resend_after}
        for part in portions(sorted(found)):
            attempts.OPEN_LIMITED.run(database, cursor, part, **values)
        slots = [
            _slot_values(one, permit, now) for one in admitted for permit in permits_of(one.limits)
        ]
        database.run_many(cursor, INSERT_SLOT, slots)
        database.run_many(cursor, DELETE_WAITING, [{"row": one.id} for one in admitted])
        return [found[one.ticket] for one in admitted]

    def _sweep(self, cursor: Cursor) -> int:
        """Delete slots whose attempts are over."""
        lost = self.database.run(cursor, LOST_SLOTS, limit=MOST_AT_ONCE).fetchall()
        self.database.run_many(cursor, DELETE_SLOT, [{"row": row} for (row,) in lost])
        return len(lost)

    # -- questions and repairs ---------------------------------------------------------------------

    def is_due(self, every: int) -> bool:
        """Tell whether one waits, and no worker looked for ``every`` microseconds."""
        ready_at, is_due = self.database.fetch_one(IS_DUE, name=_LOCK, every=every)
        return ready_at is not None and bool(is_due)

    def standings(self, execution: str, numbers: Numbers) -> list[Standing]:
        """Return where the attempts of an execution stand."""

        def look(cursor: Cursor) -> list[Standing]:
            values = {"execution": execution, "limit": _MOST_SHOWN}
            rows = self.database.run(cursor, OF_EXECUTION, **values).fetchall()
            if not rows:
                return []
            count = self._count(cursor, numbers, self._heads(cursor))
            return [self._standing(cursor, Waiter._make(row), count) for row in rows]

        return self.database.read(look)

    def _standing(self, cursor: Cursor, own: Waiter, count: PermitCount) -> Standing:
        slots = count.slots(own.limits)
        full = {slot.scope for slot, taken in slots if taken >= slot.most}
        scopes = full or {slot.scope for slot, _ in slots}
        values = {"precedence": own.precedence, "ready_at": own.ready_at, "row": own.id}
        partitions = self.database.run(cursor, PARTITIONS_BEFORE, **values).fetchall()
        before = sum(
            int(number)
            for number, limits in partitions
            if not scopes.isdisjoint(permit.scope for permit in permits_of(limits))
        )
        return Standing(own.command, own.attempt, slots, before)

    def uses(self, numbers: Numbers) -> list[Use]:
        """Return what is taken and waited for."""

        def look(cursor: Cursor) -> list[Use]:
            count = self._count(cursor, numbers, self._heads(cursor))
            waiting: dict[str, int] = {}
            for number, limits in self.database.run(cursor, PARTITIONS).fetchall():
                for permit in permits_of(limits):
                    count.permits.setdefault(permit.scope, permit)
                    waiting[permit.scope] = waiting.get(permit.scope, 0) + int(number)
            return [
                Use(
                    permit.name,
                    permit.key,
                    count.numbers.get(permit.label, permit.most),
                    permit.period,
                    count.taken.get(scope, 0),
                    waiting.get(scope, 0),
                )
                for scope, permit in count.permits.items()
            ]

        return self.database.read(look)

    def by_task(self) -> list[tuple[str, str | None, int]]:
        """Return how many wait of each task in each queue."""
        rows = self.database.read(lambda cursor: self.database.run(cursor, BY_TASK).fetchall())
        return [(task, queue, int(number)) for task, queue, number in rows]

    def free_lost(self) -> int:
        """Delete what belongs to attempts that are over; return how many rows that were."""

        def free(cursor: Cursor) -> int:
            lost = self.database.run(cursor, LOST_WAITING, limit=MOST_AT_ONCE).fetchall()
            self.database.run_many(cursor, DELETE_WAITING, [{"row": row} for (row,) in lost])
            return self._sweep(cursor) + len(lost)

        return self.database.transact(free)


def _slot_values(one: Waiter, permit: Permit, now: int) -> dict[str, Any]:
    return {
        **one.ticket._asdict(),
        "scope": permit.scope,
        "permit": json.dumps(list(permit)),
        "most": None if permit.is_declared else permit.most,
        "expires_at": None if permit.period is None else now + permit.period,
    }
