"""The tables of admission: who waits for a slot, who has one, and one lock for each orchestrator.

The row of ``durable_limits`` is the lock: it is tried, never waited for, and taken only by a
transaction that does nothing else. A waiting row is taken before any other row of its instance, by
admission as by the turn that ends it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.limits import scope_of
from ..engine.writes import Admission, AlreadyWaitsError, NewInstance, Slot
from .choosing import MOST_AT_ONCE
from .runner import Cursor, ManyValues, Runner
from .statements import Statement

__all__ = [
    "Head",
    "Waiter",
    "change_waiting",
    "free_slots",
    "heads",
    "insert_all_waiting",
    "insert_waiting",
    "lock",
    "partition",
    "slots_of",
    "room",
    "taken",
]

log: logging.Logger = logging.getLogger("celery_durable.store")

# -- within the transactions of others -----------------------------------------------------------

INSERT_WAITING = Statement(
    "INSERT INTO durable_waiting (instance, execution, name, lane, precedence, ready_at,"
    " created_at, limits, debounce) VALUES (:instance, :execution, :name, :lane, :precedence,"
    " :ready_at, :now, :limits, :debounce) {if_new}"
)
INSERT_ALL_WAITING = ManyValues(INSERT_WAITING)
FREE_WAITING = Statement("DELETE FROM durable_waiting WHERE instance = :id")
FREE_SLOTS = Statement("DELETE FROM durable_places WHERE instance = :id AND expires_at IS NULL")
OF_DEBOUNCE = Statement(
    "SELECT instance, execution, created_at, {now} FROM durable_waiting WHERE debounce = :debounce"
    " {lock}"
)
CHANGE_WAITING = Statement(
    "UPDATE durable_waiting SET lane = :lane, precedence = :precedence, ready_at = :ready_at,"
    " limits = :limits WHERE instance = :instance AND execution = :execution"
)

# -- letting in ----------------------------------------------------------------------------------

LOCK_LIMITS = Statement("SELECT name FROM durable_limits WHERE name = :name {skip_locked}")
HAS_LIMITS = Statement("SELECT 1 FROM durable_limits WHERE name = :name")
INSERT_LIMITS = Statement("INSERT INTO durable_limits (name, looked_at) VALUES (:name, 0) {if_new}")
NOTE_TRY = Statement("UPDATE durable_limits SET looked_at = {now} WHERE name = :name")
NEXT_NAME = Statement(
    "SELECT w.name, COALESCE((SELECT l.looked_at FROM durable_limits l WHERE l.name = w.name), 0) "
    "NOT BETWEEN {now} - :every AND {now} "
    "FROM (SELECT MIN(name) AS name FROM durable_waiting WHERE name > :last) w"
)
# what was ready as it came is so though the clock be set back
_HEADS = (
    "SELECT w.lane, w.precedence, w.ready_at, w.instance, w.limits FROM {keys} l JOIN"
    " durable_waiting w ON w.name = :name AND w.instance = (SELECT h.instance FROM durable_waiting"
    " h WHERE h.name = :name AND h.lane = l.lane AND (h.ready_at <= {once} OR h.ready_at ="
    " h.created_at) ORDER BY h.precedence, h.ready_at, h.instance LIMIT 1)"
)
_GROUPED = "(SELECT lane FROM durable_waiting WHERE name = :name GROUP BY lane)"
HEADS = Statement(_HEADS.replace("{keys}", _GROUPED))
# PostgreSQL reads every row for a GROUP BY; this steps from partition to partition
HEADS_BY_STEPS = Statement(
    "WITH RECURSIVE keys(lane) AS (SELECT MIN(lane) FROM durable_waiting WHERE name = :name UNION"
    " ALL SELECT (SELECT MIN(n.lane) FROM durable_waiting n WHERE n.name = :name AND n.lane >"
    " keys.lane) FROM keys WHERE keys.lane IS NOT NULL) " + _HEADS.replace("{keys}", "keys")
)
PARTITION = Statement(
    "SELECT precedence, ready_at, instance, execution, limits FROM durable_waiting WHERE name ="
    " :name AND lane = :partition AND (ready_at <= {once} OR ready_at = created_at) ORDER BY"
    " precedence, ready_at, instance LIMIT :limit {skip_locked}"
)
TAKEN = Statement(
    "SELECT scope, COUNT(*) FROM durable_places WHERE name = :name AND (expires_at IS NULL OR"
    " expires_at > {once}) GROUP BY scope"
)
ADMIT_WAITING = Statement(
    "DELETE FROM durable_waiting WHERE instance = :instance AND execution = :execution"
)
INSERT_SLOT = Statement(
    "INSERT INTO durable_places (name, scope, instance, expires_at) VALUES (:name, :scope,"
    " :instance, :expires_at)"
)

# -- questions and repairs -----------------------------------------------------------------------

OF_INSTANCE = Statement(
    "SELECT name, lane, precedence, ready_at, instance, limits FROM durable_waiting WHERE instance"
    " = :id"
)
BEFORE = Statement(
    "SELECT COUNT(*) FROM durable_waiting WHERE name = :name AND lane = :partition "
    "AND (ready_at <= {once} OR ready_at = created_at) "
    "AND (precedence < :precedence OR (precedence = :precedence AND (ready_at < :ready_at "
    "OR (ready_at = :ready_at AND instance < :instance))))"
)
ALL_TAKEN = Statement(
    "SELECT name, scope, COUNT(*) FROM durable_places WHERE expires_at IS NULL OR expires_at >"
    " {once} GROUP BY name, scope"
)
PARTITIONS = Statement(
    "SELECT name, lane, COUNT(*), MIN(limits) FROM durable_waiting WHERE ready_at <= {once} OR"
    " ready_at = created_at GROUP BY name, lane"
)
_IS_OVER = "(i.id IS NULL OR i.status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED'))"
LOST_SLOTS = Statement(
    "SELECT p.id FROM durable_places p LEFT JOIN durable_instances i ON i.id = p.instance "
    f"WHERE p.expires_at IS NULL AND {_IS_OVER} ORDER BY p.id LIMIT :limit"
)
LOST_WAITING = Statement(
    "SELECT w.instance, w.execution FROM durable_waiting w LEFT JOIN durable_instances i ON i.id ="
    f" w.instance AND i.execution = w.execution WHERE {_IS_OVER} ORDER BY w.instance LIMIT :limit"
)
DELETE_SLOT = Statement("DELETE FROM durable_places WHERE id = :slot")
DELETE_EXPIRED = Statement("DELETE FROM durable_places WHERE expires_at <= {once}")


class Head(NamedTuple):
    """The first of those that wait for the same slots."""

    partition: str
    precedence: int
    ready_at: int
    instance: str
    limits: str  #: The slots that it needs, as ``slots_of`` reads them.

    @property
    def order(self) -> tuple[int, int, str]:
        """Tells who comes first."""
        return self.precedence, self.ready_at, self.instance


class Waiter(NamedTuple):
    """One that waits, in the order of its partition."""

    precedence: int
    ready_at: int
    instance: str
    execution: str
    limits: str

    @property
    def order(self) -> tuple[int, int, str]:
        """Tells who comes first."""
        return self.precedence, self.ready_at, self.instance


class Standing(NamedTuple):
    """Where an instance waits: the columns of ``OF_INSTANCE``."""

    name: str
    partition: str
    precedence: int
    ready_at: int
    instance: str
    limits: str


def insert_waiting(database: Runner, cursor: Cursor, new: NewInstance, now: int) -> None:
    """Let a new instance wait for admission.

    Raises:
        AlreadyWaitsError: another one of its debounce key waits.
    """
    if not database.run(cursor, INSERT_WAITING, **_waiter_values(new, now)).rowcount:
        raise AlreadyWaitsError


def insert_all_waiting(
    database: Runner, cursor: Cursor, news: Sequence[NewInstance], now: int
) -> None:
    """Let new instances wait for admission that are not debounced.

    Raises:
        AlreadyWaitsError: one of them is known to wait already.
    """
    rows = [_waiter_values(new, now) for new in news]
    if rows and INSERT_ALL_WAITING.run(database, cursor, rows) != len(rows):
        raise AlreadyWaitsError


def _waiter_values(new: NewInstance, now: int) -> dict[str, Any]:
    assert new.admission is not None
    return {
        **waiting_values(new.admission),
        "instance": new.id,
        "execution": new.execution,
        "name": new.name,
        "ready_at": ready_at(new, first=now, now=now),
        "now": now,
    }


def change_waiting(
    database: Runner,
    cursor: Cursor,
    new: NewInstance,
    waiting: tuple[str, str],
    first: int,
    now: int,
) -> None:
    """Let an instance that waits do so as a later start of its debounce key says.

    ``waiting`` is its id and execution, and ``first`` is when the first of those starts came.
    """
    assert new.admission is not None
    values = waiting_values(new.admission)
    del values["debounce"]
    instance, execution = waiting
    ready = ready_at(new, first=first, now=now)
    database.run(
        cursor, CHANGE_WAITING, **values, instance=instance, execution=execution, ready_at=ready
    )


def free_slots(database: Runner, cursor: Cursor, instance_id: str) -> None:
    """Give up what an instance waits for, and the slots that it has until its end."""
    database.run(cursor, FREE_WAITING, id=instance_id)
    database.run(cursor, FREE_SLOTS, id=instance_id)


def lock(database: Runner, cursor: Cursor, name: str) -> bool:
    """Take the lock of an orchestrator; False if another transaction has it."""
    run = database.run
    if run(cursor, LOCK_LIMITS, name=name).fetchone() is not None:
        return True
    if run(cursor, HAS_LIMITS, name=name).fetchone() is not None:
        return False
    return bool(run(cursor, INSERT_LIMITS, name=name).rowcount)  # who inserts it has it locked


def heads(database: Runner, cursor: Cursor, name: str) -> list[Head]:
    """Return the first of each partition of an orchestrator that may be admitted."""
    statement = HEADS_BY_STEPS if database.family == "postgresql" else HEADS
    return [Head._make(row) for row in database.run(cursor, statement, name=name).fetchall()]


def partition(
    database: Runner, cursor: Cursor, name: str, partition: str, limit: int
) -> list[Waiter]:
    """Return the first of a partition, locked, in order."""
    rows = database.run(cursor, PARTITION, name=name, partition=partition, limit=limit).fetchall()
    return [Waiter._make(row) for row in rows]


def taken(database: Runner, cursor: Cursor, name: str) -> dict[str, int]:
    """Return how many slots of each scope are taken."""
    return {scope: int(count) for scope, count in database.run(cursor, TAKEN, name=name).fetchall()}


def waiting_values(admission: Admission) -> dict[str, Any]:
    scopes = json.dumps(sorted(scope_of(slot.label, slot.key) for slot in admission.slots))
    return {
        "lane": hashlib.sha256(scopes.encode()).hexdigest()[:40],
        "precedence": -admission.priority,
        "limits": json.dumps([list(slot) for slot in admission.slots]),
        "debounce": admission.debounce,
    }


def ready_at(new: NewInstance, *, first: int, now: int) -> int:
    """Return from when an instance may be admitted, of whose debounced starts the first came at
    ``first``.
    """
    assert new.admission is not None
    quiet, max_wait = new.admission.quiet, new.admission.max_wait
    ready_at = now + quiet if max_wait is None else min(now + quiet, first + max_wait)
    return max(ready_at, new.start_at or 0)


def slots_of(limits: str) -> list[Slot]:
    """Decode what a row needs; a damaged one needs nothing, so that it holds no other up."""
    try:
        found = [Slot(*fields) for fields in json.loads(limits)]
        if all(isinstance(slot.label, str) and isinstance(slot.most, int) for slot in found):
            return found
    except (ValueError, TypeError, RecursionError):
        pass
    log.error("the limits of a waiting orchestration are damaged, it is admitted: %.80r", limits)
    return []


def binding(slots: Iterable[Slot], maxima: Mapping[str, int] | None) -> list[Slot]:
    """Return the slots that are needed by the maxima that hold now."""
    if maxima is None:
        return list(slots)
    return [slot._replace(most=maxima[slot.label]) for slot in slots if slot.label in maxima]


def room(slots: Iterable[Slot], taken: Mapping[str, int], maxima: Mapping[str, int] | None) -> int:
    """Return how many with these slots may be admitted."""
    rooms = (
        slot.most - taken.get(scope_of(slot.label, slot.key), 0) for slot in binding(slots, maxima)
    )
    return min(rooms, default=MOST_AT_ONCE)
