"""Who waits for a place, and who has one: admission, under one short lock per orchestrator.

The row of ``durable_limits`` is the lock: it is tried, never waited for, and taken only by a transaction that does nothing
else. A waiting row is taken before any other row of its instance, by admission as by the turn that ends it.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.flow import scope_of
from ..engine.records import Admission, AlreadyWaitsError, NewInstance, Place, Waiting
from .database import Cursor, Runner, Statement

__all__ = ["FAR", "AdmissionTables"]

log = logging.getLogger("celery_durable.store")

#: When the start message of an instance that waits is visible: never, and still a date.
FAR = 253_000_000_000_000_000
_MOST_AT_ONCE = 500
_CHECK_AFTER = 4_000_000

INSERT_WAITING = Statement(
    "{insert_new} durable_waiting (instance, execution, name, lane, precedence, ready_at, created_at, limits, debounce) "
    "VALUES (:instance, :execution, :name, :lane, :precedence, :ready_at, :now, :limits, :debounce) {if_new}"
)
FREE_WAITING = Statement("DELETE FROM durable_waiting WHERE instance = :id")
FREE_PLACES = Statement("DELETE FROM durable_places WHERE instance = :id AND expires_at IS NULL")

LOCK_LIMITS = Statement("SELECT name FROM durable_limits WHERE name = :name {skip_locked}")
HAS_LIMITS = Statement("SELECT 1 FROM durable_limits WHERE name = :name")
INSERT_LIMITS = Statement("{insert_new} durable_limits (name, looked_at) VALUES (:name, 0) {if_new}")
NOTE_LOOK = Statement("UPDATE durable_limits SET looked_at = {now} WHERE name = :name")
NEXT_NAME = Statement(
    "SELECT w.name, COALESCE((SELECT l.looked_at FROM durable_limits l WHERE l.name = w.name), 0) <= {now} - :every "
    "FROM (SELECT MIN(name) AS name FROM durable_waiting WHERE name > :last) w"
)
_HEADS = (
    "SELECT w.lane, w.precedence, w.ready_at, w.instance, w.limits FROM {lanes} l JOIN durable_waiting w "
    "ON w.name = :name AND w.instance = (SELECT h.instance FROM durable_waiting h WHERE h.name = :name AND h.lane = l.lane "
    "AND h.ready_at <= {once} ORDER BY h.precedence, h.ready_at, h.instance LIMIT 1)"
)
_GROUPED = "(SELECT lane FROM durable_waiting WHERE name = :name GROUP BY lane)"
HEADS = Statement(_HEADS.replace("{lanes}", _GROUPED))
# PostgreSQL reads every row for a GROUP BY; this steps from lane to lane
HEADS_BY_STEPS = Statement(
    "WITH RECURSIVE lanes(lane) AS (SELECT MIN(lane) FROM durable_waiting WHERE name = :name UNION ALL "
    "SELECT (SELECT MIN(n.lane) FROM durable_waiting n WHERE n.name = :name AND n.lane > lanes.lane) FROM lanes "
    "WHERE lanes.lane IS NOT NULL) " + _HEADS.replace("{lanes}", "lanes")
)
LANE = Statement(
    "SELECT precedence, ready_at, instance, execution, limits FROM durable_waiting WHERE name = :name AND lane = :lane "
    "AND ready_at <= {once} ORDER BY precedence, ready_at, instance LIMIT :limit {skip_locked}"
)
TAKEN = Statement(
    "SELECT scope, COUNT(*) FROM durable_places WHERE name = :name AND (expires_at IS NULL OR expires_at > {once}) "
    "GROUP BY scope"
)
ADMIT_WAITING = Statement("DELETE FROM durable_waiting WHERE instance = :instance AND execution = :execution")
INSERT_PLACE = Statement(
    "INSERT INTO durable_places (name, scope, instance, expires_at) VALUES (:name, :scope, :instance, :expires_at)"
)
SHOW_START = Statement(
    "UPDATE durable_inbox SET visible_at = :now, wake_at = :now, check_at = :check_at "
    "WHERE instance = :instance AND dedup = :dedup"
)
CLOCK = Statement("SELECT {now}")

OF_DEBOUNCE = Statement(
    "SELECT instance, execution, created_at, {now} FROM durable_waiting WHERE debounce = :debounce {lock}"
)
TRY_INSTANCE = Statement("SELECT 1 FROM durable_instances WHERE id = :id AND execution = :execution {lock_instance}")
CHANGE_INPUT = Statement("UPDATE durable_instances SET input = :input, updated_at = :now WHERE id = :id")
CHANGE_WAITING = Statement(
    "UPDATE durable_waiting SET lane = :lane, precedence = :precedence, ready_at = :ready_at, limits = :limits "
    "WHERE instance = :instance AND execution = :execution"
)

OF_INSTANCE = Statement(
    "SELECT name, lane, precedence, ready_at, instance, limits FROM durable_waiting WHERE instance = :id"
)
BEFORE = Statement(
    "SELECT COUNT(*) FROM durable_waiting WHERE name = :name AND lane = :lane AND ready_at <= {once} "
    "AND (precedence < :precedence OR (precedence = :precedence AND (ready_at < :ready_at "
    "OR (ready_at = :ready_at AND instance < :instance))))"
)

_IS_OVER = "(i.id IS NULL OR i.status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED'))"
LOST_PLACES = Statement(
    "SELECT p.id FROM durable_places p LEFT JOIN durable_instances i ON i.id = p.instance "
    f"WHERE p.expires_at IS NULL AND {_IS_OVER} ORDER BY p.id LIMIT :limit"
)
LOST_WAITING = Statement(
    "SELECT w.instance, w.execution FROM durable_waiting w LEFT JOIN durable_instances i ON i.id = w.instance "
    f"AND i.execution = w.execution WHERE {_IS_OVER} ORDER BY w.instance LIMIT :limit"
)
DELETE_PLACE = Statement("DELETE FROM durable_places WHERE id = :place")
DELETE_EXPIRED = Statement("DELETE FROM durable_places WHERE expires_at <= {once}")


class AdmissionTables:
    """The part of the store that lets limited instances in (``engine.flow.AdmissionStore``)."""

    database: Runner

    # -- inside others' transactions --------------------------------------------------------------------------

    def _insert_waiting(self, cursor: Cursor, new: NewInstance, now: int) -> None:
        assert new.admission is not None
        values = {**_waiting_values(new.admission), "instance": new.id, "execution": new.execution, "name": new.name}
        ready_at = _ready_at(new, first=now, now=now)
        if not self.database.run(cursor, INSERT_WAITING, **values, ready_at=ready_at, now=now).rowcount:
            raise AlreadyWaitsError

    def _free_place(self, cursor: Cursor, instance_id: str) -> None:
        self.database.run(cursor, FREE_WAITING, id=instance_id)
        self.database.run(cursor, FREE_PLACES, id=instance_id)

    # -- admission --------------------------------------------------------------------------------------------

    def admit(self, name: str, terms: Mapping[str, int] | None, *, notes_look: bool = False) -> list[str] | None:
        """Let in those of an orchestrator that have room, by priority and age; return them.

        Args:
            name: of the orchestrator.
            terms: the numbers that hold now, by label; a limit that is not there holds no more. None: those at the start.
            notes_look: keep the time, for ``names_waiting``.

        Returns:
            None if another is about it, who looks again after its commit.
        """

        def admit(cursor: Cursor) -> list[str] | None:
            if not self._lock_limits(cursor, name):
                return None
            if notes_look:
                self.database.run(cursor, NOTE_LOOK, name=name)
            heads = self._heads(cursor, name)
            return self._admit(cursor, name, terms, heads) if heads else []

        return self.database.transact(admit)

    def _lock_limits(self, cursor: Cursor, name: str) -> bool:
        run = self.database.run
        if run(cursor, LOCK_LIMITS, name=name).fetchone() is not None:
            return True
        if run(cursor, HAS_LIMITS, name=name).fetchone() is not None:
            return False
        return bool(run(cursor, INSERT_LIMITS, name=name).rowcount)  # who inserts it has it locked

    def _heads(self, cursor: Cursor, name: str) -> list[Any]:
        statement = HEADS_BY_STEPS if self.database.family == "postgresql" else HEADS
        return list(self.database.run(cursor, statement, name=name).fetchall())

    def _taken(self, cursor: Cursor, name: str) -> dict[str, int]:
        return {scope: int(count) for scope, count in self.database.run(cursor, TAKEN, name=name).fetchall()}

    def _admit(self, cursor: Cursor, name: str, terms: Mapping[str, int] | None, heads: Iterable[Any]) -> list[str]:
        taken, lanes, chosen = self._taken(cursor, name), dict[str, list[Any]](), list[tuple[str, str, list[Place]]]()
        queue = [
            (precedence, ready_at, instance, lane, limits) for lane, precedence, ready_at, instance, limits in heads
        ]
        heapq.heapify(queue)
        while queue and len(chosen) < _MOST_AT_ONCE:
            *_, lane, limits = heapq.heappop(queue)
            if (room := _room(_places(limits), taken, terms)) <= 0:
                continue
            if lane not in lanes:
                limit = min(room, _MOST_AT_ONCE - len(chosen))
                lanes[lane] = list(self.database.run(cursor, LANE, name=name, lane=lane, limit=limit).fetchall())[::-1]
            if not lanes[lane]:
                continue
            _, _, instance, execution, limits = lanes[lane].pop()
            places = _places(limits)
            for place in places:
                scope = scope_of(place.label, place.key)
                taken[scope] = taken.get(scope, 0) + 1
            chosen.append((instance, execution, places))
            if lanes[lane]:
                precedence, ready_at, instance, _, limits = lanes[lane][-1]
                heapq.heappush(queue, (precedence, ready_at, instance, lane, limits))
        self._let_in(cursor, name, chosen)
        return [instance for instance, _, _ in chosen]

    def _let_in(self, cursor: Cursor, name: str, chosen: Sequence[tuple[str, str, list[Place]]]) -> None:
        if not chosen:
            return
        run_many = self.database.run_many
        now = self.database.run(cursor, CLOCK).fetchone()[0]
        ids = [{"instance": instance, "execution": execution} for instance, execution, _ in sorted(chosen)]
        run_many(cursor, ADMIT_WAITING, ids)
        run_many(cursor, INSERT_PLACE, [
            {"name": name, "scope": scope_of(place.label, place.key), "instance": instance,
             "expires_at": None if place.period is None else now + place.period}
            for instance, _, places in chosen for place in places
        ])  # fmt: skip
        run_many(cursor, SHOW_START, [
            {"instance": row["instance"], "dedup": f"start:{row['execution']}", "now": now, "check_at": now + _CHECK_AFTER}
            for row in ids
        ])  # fmt: skip

    def may_admit(self, name: str, terms: Mapping[str, int] | None) -> bool:
        """Tell whether one of an orchestrator that waits has room; takes no lock."""

        def look(cursor: Cursor) -> bool:
            heads = self._heads(cursor, name)
            if not heads:
                return False
            taken = self._taken(cursor, name)
            return any(_room(_places(limits), taken, terms) > 0 for *_, limits in heads)

        return self.database.read(look)

    def names_waiting(self, every: int) -> list[str]:
        """Return the orchestrators of which some wait, and at which nobody looked for ``every`` microseconds."""
        found: list[str] = []
        last = ""
        while True:
            name, is_due = self.database.fetch_one(NEXT_NAME, last=last, every=every)
            if name is None:
                return found
            last = name
            if is_due:
                found.append(name)

    # -- debounce ---------------------------------------------------------------------------------------------

    def merge_start(self, new: NewInstance) -> str | None:
        """Let the instance that waits under the same debounce key have this input; return its id, or None if none waits.

        Raises:
            AlreadyWaitsError: there is one, and it is locked for the moment.
        """
        assert new.admission is not None

        def merge(cursor: Cursor) -> str | None:
            run, admission = self.database.run, new.admission
            assert admission is not None
            row = run(cursor, OF_DEBOUNCE, debounce=admission.debounce).fetchone()
            if row is None:
                return None
            id_, execution, first, now = row
            if run(cursor, TRY_INSTANCE, id=id_, execution=execution).fetchone() is None:
                raise AlreadyWaitsError
            run(cursor, CHANGE_INPUT, id=id_, input=new.input.encode(), now=now)
            values = _waiting_values(admission)
            del values["debounce"]
            ready_at = _ready_at(new, first=first, now=now)
            run(cursor, CHANGE_WAITING, **values, instance=id_, execution=execution, ready_at=ready_at)
            return str(id_)

        return self.database.transact(merge)

    # -- looks and repairs --------------------------------------------------------------------------------------

    def find_waiting(self, instance_id: str, terms: Mapping[str, int] | None) -> Waiting | None:
        """Return where an instance stands that waits for admission; None if it does not."""

        def look(cursor: Cursor) -> Waiting | None:
            run = self.database.run
            row = run(cursor, OF_INSTANCE, id=instance_id).fetchone()
            if row is None:
                return None
            name, lane, precedence, ready_at, instance, limits = row
            (before,) = run(
                cursor, BEFORE, name=name, lane=lane, precedence=precedence, ready_at=ready_at, instance=instance
            ).fetchone()
            taken = self._taken(cursor, name)
            places = [
                (place, taken.get(scope_of(place.label, place.key), 0)) for place in _binding(_places(limits), terms)
            ]
            return Waiting(name, places, int(before), ready_at)

        return self.database.read(look)

    def free_lost_places(self) -> int:
        """Delete the places of starts long ago, and what belongs to instances that are over or gone; return how many."""
        run = self.database.run

        def free(cursor: Cursor) -> int:
            count = int(run(cursor, DELETE_EXPIRED).rowcount)
            for (place,) in run(cursor, LOST_PLACES, limit=_MOST_AT_ONCE).fetchall():
                count += int(run(cursor, DELETE_PLACE, place=place).rowcount)
            for instance, execution in run(cursor, LOST_WAITING, limit=_MOST_AT_ONCE).fetchall():
                count += int(run(cursor, ADMIT_WAITING, instance=instance, execution=execution).rowcount)
            return count

        return self.database.transact(free)


def _waiting_values(admission: Admission) -> dict[str, Any]:
    scopes = json.dumps(sorted(scope_of(place.label, place.key) for place in admission.places))
    return {
        "lane": hashlib.sha256(scopes.encode()).hexdigest()[:40], "precedence": -admission.priority,
        "limits": json.dumps([list(place) for place in admission.places]), "debounce": admission.debounce,
    }  # fmt: skip


def _ready_at(new: NewInstance, *, first: int, now: int) -> int:
    """Return from when an instance may be let in, of whose debounced starts the first came at ``first``."""
    assert new.admission is not None
    quiet, max_wait = new.admission.quiet, new.admission.max_wait
    ready_at = now + quiet if max_wait is None else min(now + quiet, first + max_wait)
    return max(ready_at, new.start_at or 0)


def _places(limits: str) -> list[Place]:
    """Decode what a row needs; a damaged one needs nothing, so that it holds no other up."""
    try:
        found = [Place(*fields) for fields in json.loads(limits)]
        if all(isinstance(place.label, str) and isinstance(place.most, int) for place in found):
            return found
    except (ValueError, TypeError, RecursionError):
        pass
    log.error("the limits of a waiting orchestration are damaged, it is let in: %.80r", limits)
    return []


def _binding(places: Iterable[Place], terms: Mapping[str, int] | None) -> list[Place]:
    """Return the places that are needed by the terms that hold now."""
    if terms is None:
        return list(places)
    return [place._replace(most=terms[place.label]) for place in places if place.label in terms]


def _room(places: Iterable[Place], taken: Mapping[str, int], terms: Mapping[str, int] | None) -> int:
    """Return how many with these places may be let in."""
    rooms = (place.most - taken.get(scope_of(place.label, place.key), 0) for place in _binding(places, terms))
    return min(rooms, default=_MOST_AT_ONCE)
