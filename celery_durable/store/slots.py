"""Admission: letting in those that wait, under one short lock for each orchestrator."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from ..core.limits import scope_of
from ..engine.writes import CHECK_MESSAGE_AFTER, Place, Waiting
from . import admission, clock, inbox
from .admission import MOST_AT_ONCE, Head, Waiter, binding, places_of, room
from .runner import Cursor, Runner

__all__ = ["AdmissionRows"]


class AdmissionRows:
    """Who waits for a slot, and who has one (``engine.store_ports.AdmissionRows``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def admit(
        self, name: str, terms: Mapping[str, int] | None, *, notes_look: bool = False
    ) -> list[str] | None:
        """Let in those of an orchestrator that have room, by priority and age; return them.

        Args:
            name: of the orchestrator.
            terms: the numbers that hold now, by label; a limit that is not there holds no more.
                None: those at the start.
            notes_look: keep the time, for ``names_waiting``.

        Returns:
            None if another is about it, who looks again after its commit.
        """

        def admit(cursor: Cursor) -> list[str] | None:
            if not admission.lock(self.database, cursor, name):
                return None
            if notes_look:
                self.database.run(cursor, admission.NOTE_LOOK, name=name)
            heads = admission.heads(self.database, cursor, name)
            return self._admit(cursor, name, terms, heads) if heads else []

        return self.database.transact(admit)

    def _admit(
        self, cursor: Cursor, name: str, terms: Mapping[str, int] | None, heads: Sequence[Head]
    ) -> list[str]:
        """Take the first of all lanes again and again, as long as there is room."""
        taken = admission.taken(self.database, cursor, name)
        lanes: dict[str, list[Waiter]] = {}
        chosen: list[tuple[str, str, list[Place]]] = []
        queue = [
            (head.precedence, head.ready_at, head.instance, head.lane, head.limits)
            for head in heads
        ]
        heapq.heapify(queue)
        while queue and len(chosen) < MOST_AT_ONCE:
            *_, lane, limits = heapq.heappop(queue)
            free = room(places_of(limits), taken, terms)
            if free <= 0:
                continue
            if lane not in lanes:
                limit = min(free, MOST_AT_ONCE - len(chosen))
                waiters = admission.lane(self.database, cursor, name, lane, limit)
                lanes[lane] = waiters[::-1]
            if not lanes[lane]:
                continue
            waiter = lanes[lane].pop()
            places = places_of(waiter.limits)
            for place in places:
                scope = scope_of(place.label, place.key)
                taken[scope] = taken.get(scope, 0) + 1
            chosen.append((waiter.instance, waiter.execution, places))
            if lanes[lane]:
                then = lanes[lane][-1]
                heapq.heappush(
                    queue, (then.precedence, then.ready_at, then.instance, lane, then.limits)
                )
        self._let_in(cursor, name, chosen)
        return [instance for instance, _, _ in chosen]

    def _let_in(
        self, cursor: Cursor, name: str, chosen: Sequence[tuple[str, str, list[Place]]]
    ) -> None:
        if not chosen:
            return
        run_many = self.database.run_many
        now = clock.now(self.database, cursor)
        ids = [
            {"instance": instance, "execution": execution}
            for instance, execution, _ in sorted(chosen)
        ]
        run_many(cursor, admission.ADMIT_WAITING, ids)
        places = [
            {
                "name": name,
                "scope": scope_of(place.label, place.key),
                "instance": instance,
                "expires_at": None if place.period is None else now + place.period,
            }
            for instance, _, places in chosen
            for place in places
        ]
        run_many(cursor, admission.INSERT_PLACE, places)
        shown = [
            {
                "instance": row["instance"],
                "dedup": f"start:{row['execution']}",
                "shown": -now,
                "now": now,
                "check_at": now + CHECK_MESSAGE_AFTER,
            }
            for row in ids
        ]
        run_many(cursor, inbox.SHOW_START, shown)

    def may_admit(self, name: str, terms: Mapping[str, int] | None) -> bool:
        """Tell whether one of an orchestrator that waits has room; takes no lock."""

        def look(cursor: Cursor) -> bool:
            heads = admission.heads(self.database, cursor, name)
            if not heads:
                return False
            taken = admission.taken(self.database, cursor, name)
            return any(room(places_of(head.limits), taken, terms) > 0 for head in heads)

        return self.database.read(look)

    def names_waiting(self, every: int) -> list[str]:
        """Return the orchestrators of which some wait, and at which no worker looked for ``every``
        microseconds.
        """
        found: list[str] = []
        last = ""
        while True:
            name, is_due = self.database.fetch_one(admission.NEXT_NAME, last=last, every=every)
            if name is None:
                return found
            last = name
            if is_due:
                found.append(name)

    def find_waiting(self, instance_id: str, terms: Mapping[str, int] | None) -> Waiting | None:
        """Return where an instance stands that waits for admission; None if it does not."""

        def look(cursor: Cursor) -> Waiting | None:
            run = self.database.run
            row = run(cursor, admission.OF_INSTANCE, id=instance_id).fetchone()
            if row is None:
                return None
            own = admission.Standing._make(row)
            values = own._asdict()
            del values["limits"]
            (before,) = run(cursor, admission.BEFORE, **values).fetchone()
            taken = admission.taken(self.database, cursor, own.name)
            places = [
                (place, taken.get(scope_of(place.label, place.key), 0))
                for place in binding(places_of(own.limits), terms)
            ]
            return Waiting(own.name, places, int(before), own.ready_at)

        return self.database.read(look)

    def free_lost_places(self) -> int:
        """Delete the slots of starts long ago, and what belongs to instances that are over or gone;
        return how many.
        """
        run, limit = self.database.run, MOST_AT_ONCE

        def free(cursor: Cursor) -> int:
            count = int(run(cursor, admission.DELETE_EXPIRED).rowcount)
            for (place,) in run(cursor, admission.LOST_PLACES, limit=limit).fetchall():
                count += int(run(cursor, admission.DELETE_PLACE, place=place).rowcount)
            lost = run(cursor, admission.LOST_WAITING, limit=limit).fetchall()
            for instance, execution in lost:
                values = {"instance": instance, "execution": execution}
                count += int(run(cursor, admission.ADMIT_WAITING, **values).rowcount)
            return count

        return self.database.transact(free)
