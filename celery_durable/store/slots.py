"""Admission: letting in those that wait, under one short lock for each orchestrator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.limits import scope_of
from ..engine.activity_limits import MaximaOf, Use
from ..engine.writes import CHECK_MESSAGE_AFTER, Slot, Waiting
from . import admission, clock, inbox
from .admission import Head, Waiter, binding, room, slots_of
from .choosing import MOST_AT_ONCE, choose
from .runner import Cursor, Runner

__all__ = ["AdmissionRows"]


def _use_of(name: str, scope: str, maxima: Mapping[str, int]) -> Use:
    """Return what the name of a slot tells of its limit."""
    label, _, key = scope.partition("=")
    kind, _, by = label.partition(":")
    _, _, period = kind.partition("/")
    return Use(name, key if by else None, maxima.get(label), int(period) if period else None, 0, 0)


class AdmissionRows:
    """Who waits for a slot, and who has one (``engine.store_ports.AdmissionRows``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def admit(
        self, name: str, maxima: Mapping[str, int] | None, *, notes_try: bool = False
    ) -> list[str] | None:
        """Admit those of an orchestrator that have room, by priority and age; return them.

        Args:
            name: of the orchestrator.
            maxima: the numbers that hold now, by label; a limit that is not there holds no more.
                None: those at the start.
            notes_try: keep the time, for ``names_waiting``.

        Returns:
            None if another is about it, who looks again after its commit.
        """

        def admit(cursor: Cursor) -> list[str] | None:
            if not admission.lock(self.database, cursor, name):
                return None
            if notes_try:
                self.database.run(cursor, admission.NOTE_TRY, name=name)
            heads = admission.heads(self.database, cursor, name)
            return self._admit(cursor, name, maxima, heads) if heads else []

        return self.database.transact(admit)

    def _admit(
        self, cursor: Cursor, name: str, maxima: Mapping[str, int] | None, heads: Sequence[Head]
    ) -> list[str]:
        """Take the first of all partitions again and again, as long as there is room."""
        taken = admission.taken(self.database, cursor, name)

        def take(waiter: Waiter) -> None:
            for slot in slots_of(waiter.limits):
                scope = scope_of(slot.label, slot.key)
                taken[scope] = taken.get(scope, 0) + 1

        chosen = choose(
            heads,
            lambda one: room(slots_of(one.limits), taken, maxima),
            lambda partition, limit: admission.partition(
                self.database, cursor, name, partition, limit
            ),
            take,
        )
        self._take_slots(
            cursor, name, [(one.instance, one.execution, slots_of(one.limits)) for one in chosen]
        )
        return [one.instance for one in chosen]

    def _take_slots(
        self, cursor: Cursor, name: str, chosen: Sequence[tuple[str, str, list[Slot]]]
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
        slots = [
            {
                "name": name,
                "scope": scope_of(slot.label, slot.key),
                "instance": instance,
                "expires_at": None if slot.period is None else now + slot.period,
            }
            for instance, _, slots in chosen
            for slot in slots
        ]
        run_many(cursor, admission.INSERT_SLOT, slots)
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

    def may_admit(self, name: str, maxima: Mapping[str, int] | None) -> bool:
        """Tell whether one of an orchestrator that waits has room; takes no lock."""

        def look(cursor: Cursor) -> bool:
            heads = admission.heads(self.database, cursor, name)
            if not heads:
                return False
            taken = admission.taken(self.database, cursor, name)
            return any(room(slots_of(head.limits), taken, maxima) > 0 for head in heads)

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

    def find_waiting(self, instance_id: str, maxima: Mapping[str, int] | None) -> Waiting | None:
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
            slots = [
                (slot, taken.get(scope_of(slot.label, slot.key), 0))
                for slot in binding(slots_of(own.limits), maxima)
            ]
            return Waiting(own.name, slots, int(before), own.ready_at)

        return self.database.read(look)

    def uses(self, maxima_of: MaximaOf) -> list[Use]:
        """Return what is taken and waited for of the limits of all orchestrators."""

        def look(cursor: Cursor) -> list[Use]:
            run = self.database.run
            found: dict[tuple[str, str], Use] = {}
            for name, _, number, limits in run(cursor, admission.PARTITIONS).fetchall():
                for slot in binding(slots_of(limits), maxima_of(name)):
                    at = name, scope_of(slot.label, slot.key)
                    use = found.get(at) or Use(name, slot.key, slot.most, slot.period, 0, 0)
                    found[at] = use._replace(waiting=use.waiting + int(number))
            for name, scope, number in run(cursor, admission.ALL_TAKEN).fetchall():
                use = found.get((name, scope)) or _use_of(name, scope, maxima_of(name) or {})
                found[name, scope] = use._replace(taken=int(number))
            return list(found.values())

        return self.database.read(look)

    def free_lost_slots(self) -> int:
        """Delete the slots of starts long ago, and what belongs to instances that are over or gone;
        return how many.
        """
        run, limit = self.database.run, MOST_AT_ONCE

        def free(cursor: Cursor) -> int:
            count = int(run(cursor, admission.DELETE_EXPIRED).rowcount)
            for (slot,) in run(cursor, admission.LOST_SLOTS, limit=limit).fetchall():
                count += int(run(cursor, admission.DELETE_SLOT, slot=slot).rowcount)
            lost = run(cursor, admission.LOST_WAITING, limit=limit).fetchall()
            for instance, execution in lost:
                values = {"instance": instance, "execution": execution}
                count += int(run(cursor, admission.ADMIT_WAITING, **values).rowcount)
            return count

        return self.database.transact(free)
