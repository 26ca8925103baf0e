"""The tables of switches: what is paused or ramped, and what pauses hold.

An activity that a pause holds has its ``gate`` set and no time of recovery, and its time limits are
kept relative; an instance that is held has its inbox parked. For each of both there is a row in
``durable_held``. A hold locks the row of its pause, shared: so nothing is held by a pause any more
once lifting it is committed, and what it holds then is all there is to let go.
"""

from __future__ import annotations

import json
from typing import Any

from ..engine.records import ActivityAttemptId
from ..engine.switches import GATED, Switch, SwitchKind, until_of
from . import attempts, audit, clock, inbox
from .runner import Cursor, ManyRows, Runner
from .statements import Shape, Statement
from .timing import Timing
from .values import portions, readable

__all__ = ["SwitchRows"]

_SHAPE = Shape(Switch)
READ_SWITCHES = Statement(
    f"SELECT {_SHAPE.columns} FROM durable_switches WHERE kind <> '{SwitchKind.FAILURES}' ORDER BY"
    " kind, name"
)
INSERT_SWITCH = Statement(
    "INSERT INTO durable_switches (kind, name, value, reason, since, lifted_at) VALUES (:kind,"
    " :name, :value, :reason, {now}, NULL) {if_new}"
)
CHANGE_SWITCH = Statement(
    "UPDATE durable_switches SET value = :value, reason = :reason, since = CASE WHEN lifted_at IS"
    " NULL THEN since ELSE {now} END, lifted_at = NULL WHERE kind = :kind AND name = :name"
)
GET_SWITCH = Statement(
    f"SELECT {_SHAPE.columns} FROM durable_switches WHERE kind = :kind AND name = :name"
)
LIFT_SWITCH = Statement(
    "UPDATE durable_switches SET lifted_at = {now} WHERE kind = :kind AND name = :name AND"
    " lifted_at IS NULL"
)
DELETE_SWITCH = Statement("DELETE FROM durable_switches WHERE kind = :kind AND name = :name")
LOCK_PAUSE = Statement(
    "SELECT 1 FROM durable_switches WHERE kind = :kind AND name = :name AND lifted_at IS NULL"
    " {share}"
)
HELD = Statement(
    "SELECT COUNT(*) FROM durable_held h LEFT JOIN durable_outbox o ON o.execution = h.execution"
    " AND o.command = h.command AND o.attempt = h.attempt AND o.gate = 'paused' LEFT JOIN"
    " durable_instances i ON h.command = 0 AND i.id = h.instance AND i.execution = h.execution AND"
    " i.status IN ('PENDING', 'RUNNING', 'SUSPENDED') WHERE h.kind = :kind AND h.name = :name AND"
    " (o.execution IS NOT NULL OR i.id IS NOT NULL)"
)

# -- pauses that tasks set by themselves ---------------------------------------------------------

FAILURES_OF = Statement(
    f"SELECT value FROM durable_switches WHERE kind = '{SwitchKind.FAILURES}' AND name = :name"
    " {lock}"
)
NOTE_FAILURES = Statement(
    f"UPDATE durable_switches SET value = :value WHERE kind = '{SwitchKind.FAILURES}' AND name ="
    " :name"
)
FORGET_FAILURES = Statement(
    f"DELETE FROM durable_switches WHERE kind = '{SwitchKind.FAILURES}' AND name = :name"
)
TIMED = Statement(
    f"SELECT {_SHAPE.columns}, {{now}} FROM durable_switches WHERE kind = '{SwitchKind.TASK}' AND"
    " value IS NOT NULL AND lifted_at IS NULL"
)
# not one that was set once more meanwhile
LIFT_TIMED = Statement(
    "UPDATE durable_switches SET lifted_at = {now} WHERE kind = :kind AND name = :name AND value ="
    " :value AND lifted_at IS NULL"
)

# -- holding -------------------------------------------------------------------------------------

NOTE_HELD = Statement(
    "INSERT INTO durable_held (execution, command, attempt, instance, kind, name, since) SELECT"
    " o.execution, o.command, o.attempt, o.instance, :kind, :name, COALESCE(o.sent_at, {now}) FROM"
    " durable_outbox o WHERE o.execution = :execution AND o.command = :command AND o.attempt ="
    " :attempt {if_new}"
)
NOTE_HELD_TURNS = Statement(
    "INSERT INTO durable_held (execution, command, attempt, instance, kind, name, since) VALUES"
    " (:execution, 0, 0, :instance, :kind, :name, {now}) {if_new}"
)

# -- letting go ----------------------------------------------------------------------------------

LIFTED = Statement(
    "SELECT kind, name FROM durable_switches WHERE lifted_at IS NOT NULL ORDER BY lifted_at"
)
OLDEST_HELD = Statement(
    "SELECT execution, command, attempt, instance, since FROM durable_held WHERE kind = :kind AND"
    " name = :name ORDER BY since, execution, command LIMIT :limit {skip_locked}"
)
HAS_HELD = Statement("SELECT 1 FROM durable_held WHERE kind = :kind AND name = :name LIMIT 1")
FORGET_HELD = ManyRows("DELETE FROM durable_held WHERE {these}", *ActivityAttemptId._fields)
FORGET_SWITCH = Statement(
    "DELETE FROM durable_switches WHERE kind = :kind AND name = :name AND lifted_at IS NOT NULL"
)


class SwitchRows:
    """Switches (``engine.switches.SwitchRows``)."""

    def __init__(self, database: Runner, timing: Timing) -> None:
        self.database = database
        self.timing = timing

    def read(self) -> list[Switch]:
        """Return all switches; see ``engine.switches``."""
        return self.database.read(self.read_within)

    def read_within(self, cursor: Cursor) -> list[Switch]:
        """Return the same on a cursor inside a caller's transaction."""
        return [_SHAPE.read(row) for row in self.database.run(cursor, READ_SWITCHES).fetchall()]

    def set(self, kind: str, name: str, value: str | None, reason: str | None) -> Switch:
        """Set a switch; one that is in force keeps its time."""
        run, values = self.database.run, {"value": value, "reason": readable(reason)}

        def change(cursor: Cursor) -> Switch:
            if not run(cursor, INSERT_SWITCH, kind=kind, name=name, **values).rowcount:
                run(cursor, CHANGE_SWITCH, kind=kind, name=name, **values)
            audit.leave(self.database, cursor)
            return _SHAPE.read(run(cursor, GET_SWITCH, kind=kind, name=name).fetchone())

        return self.database.transact(change)

    def lift(self, kind: str, name: str) -> bool:
        """Let a pause hold nothing more; False if none of this name is in force."""
        if kind != SwitchKind.TASK:
            return audit.change_one(self.database, LIFT_SWITCH, kind=kind, name=name)

        def lift(cursor: Cursor) -> bool:
            run = self.database.run
            run(cursor, FORGET_FAILURES, name=name)  # what failed before it counts no more
            was_in_force = run(cursor, LIFT_SWITCH, kind=kind, name=name).rowcount == 1
            if was_in_force:
                audit.leave(self.database, cursor)
            return was_in_force

        return self.database.transact(lift)

    def delete(self, kind: str, name: str) -> bool:
        """Delete a switch that holds nothing; False if there is none."""
        return audit.change_one(self.database, DELETE_SWITCH, kind=kind, name=name)

    def held(self, kind: str, name: str) -> int:
        """Return how much a pause holds."""
        (count,) = self.database.fetch_one(HELD, kind=kind, name=name)
        return int(count)

    def queue_of(self, ticket: ActivityAttemptId) -> str | None:
        """Return where the messages of an activity go."""
        row = self.database.fetch_one(attempts.QUEUE_OF, **ticket._asdict())
        return None if row is None else row[0]

    # -- pauses that tasks set by themselves ---------------------------------------------------

    def count_failure(
        self, task: str, most: int, window: int, length: int | None, reason: str
    ) -> Switch | None:
        """Note that an attempt of a task has failed; return the pause that this set."""

        def count(cursor: Cursor) -> Switch | None:
            run, now = self.database.run, clock.now(self.database, cursor)
            times = [*self._failures(cursor, task, now - window), now]
            if len(times) < most:
                run(cursor, NOTE_FAILURES, name=task, value=json.dumps(times))
                return None
            run(cursor, FORGET_FAILURES, name=task)
            until = None if length is None else json.dumps({"until": now + length})
            of = {"kind": str(SwitchKind.TASK), "name": task}
            values = {"value": until, "reason": readable(reason)}
            if not run(cursor, INSERT_SWITCH, **of, **values).rowcount:
                if run(cursor, LOCK_PAUSE, **of).fetchone() is not None:
                    return None  # it is paused: by whom, and why, stays
                run(cursor, CHANGE_SWITCH, **of, **values)
            return _SHAPE.read(run(cursor, GET_SWITCH, **of).fetchone())

        return self.database.transact(count)

    def _failures(self, cursor: Cursor, task: str, since: int) -> list[int]:
        """Return when a task has failed, and lock that row, which is made if there is none."""
        run, of = self.database.run, {"kind": str(SwitchKind.FAILURES), "name": task}
        run(cursor, INSERT_SWITCH, **of, value="[]", reason=None)
        (text,) = run(cursor, FAILURES_OF, name=task).fetchone()
        try:
            return [int(moment) for moment in json.loads(text or "[]") if moment > since]
        except (ValueError, TypeError, RecursionError):
            return []  # damaged: the count begins again

    def _lift_timed(self) -> None:
        """Lift pauses whose time is over."""
        run = self.database.run
        for row in self.database.read(lambda cursor: run(cursor, TIMED).fetchall()):
            pause, (now,) = _SHAPE.take(row)
            until = until_of(pause)
            if until is not None and until <= now:
                of = {"kind": pause.kind, "name": pause.name, "value": pause.value}
                self.database.change_one(LIFT_TIMED, **of)

    # -- holding -----------------------------------------------------------------------------------

    def hold_activity(self, ticket: ActivityAttemptId, pause: Switch, lease: int) -> bool:
        """Keep an attempt from beginning; see ``engine.switches``."""
        run, of = self.database.run, {"kind": pause.kind, "name": pause.name}
        attempt = ticket._asdict()
        free = {**attempt, "worker": None, "lease": lease, "is_again": 0}

        def hold(cursor: Cursor) -> bool:
            if run(cursor, LOCK_PAUSE, **of).fetchone() is None:
                return False
            if not run(cursor, attempts.CLOSE_GATE, **free).rowcount:
                return False
            run(cursor, NOTE_HELD, **attempt, **of)
            return True

        return self.database.transact(hold)

    def hold_turns(self, instance_id: str, execution: str, pause: Switch) -> bool:
        """Keep an instance from taking turns; see ``engine.switches``."""
        run, of = self.database.run, {"kind": pause.kind, "name": pause.name}

        def hold(cursor: Cursor) -> bool:
            if run(cursor, LOCK_PAUSE, **of).fetchone() is None:
                return False
            # first these rows: letting go of what an earlier pause held waits, or is waited for
            run(cursor, inbox.PARK_PAUSED, id=instance_id)
            run(cursor, NOTE_HELD_TURNS, execution=execution, instance=instance_id, **of)
            return True

        return self.database.transact(hold)

    # -- letting go --------------------------------------------------------------------------------

    def release(self, limit: int) -> int:
        """Let so much of what lifted pauses hold go on; see ``engine.switches``."""
        self._lift_timed()
        lifted = self.database.read(lambda cursor: self.database.run(cursor, LIFTED).fetchall())
        released = 0
        for kind, name in lifted:
            if released < limit:
                released += self._release(kind, name, limit - released)
        return released

    def _release(self, kind: str, name: str, limit: int) -> int:
        run, of = self.database.run, {"kind": kind, "name": name}

        def release(cursor: Cursor) -> int:
            rows = run(cursor, OLDEST_HELD, limit=limit, **of).fetchall()
            tickets = [ActivityAttemptId(*row[:3]) for row in rows]
            activities = [ticket for ticket in tickets if ticket.command]
            for part in portions(activities):
                attempts.OPEN_GATES.run(self.database, cursor, part)
            self._wake(cursor, sorted((row[3], row[4]) for row in rows if not row[1]))
            for part in portions(tickets):
                FORGET_HELD.run(self.database, cursor, part)
            if not rows and run(cursor, HAS_HELD, **of).fetchone() is None:
                run(cursor, FORGET_SWITCH, **of)
            return len(rows)

        return self.database.transact(release)

    def _wake(self, cursor: Cursor, instances: list[Any]) -> None:
        """Let recovery look at instances, each given with the time since which it was held."""
        if not instances:
            return
        horizon = self.timing.timer_horizon
        far = clock.now(self.database, cursor) + horizon
        for instance, since in instances:
            values = {"instance": instance, "since": since, "far": far, "horizon": horizon}
            self.database.run(cursor, inbox.WAKE_HELD, **values)


assert GATED == "paused"
