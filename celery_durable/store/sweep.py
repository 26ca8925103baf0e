"""What recovery reads and marks: rows whose ``check_at`` is due, and workers that went silent.

Everything here touches inbox, outbox and worker rows only, never instance rows, and skips what another sweeper has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..engine.records import ActivityRow, ActivityTicket, DueActivity, DueWake, Look
from .database import Cursor, Statement
from .schedules import ScheduleTables
from .turns import NEXT_LOOK, text_of

__all__ = ["SweepTables"]

HEARTBEAT = Statement("UPDATE durable_workers SET last_seen = {now} WHERE id = :id")
REGISTER = Statement(
    "{insert_new} durable_workers (id, hostname, started_at, last_seen) VALUES (:id, :hostname, {now}, {now}) {if_new}"
)
UNREGISTER = Statement("DELETE FROM durable_workers WHERE id = :id")
MARK = Statement(
    f"UPDATE durable_outbox SET holder = :worker, start_by = NULL, beat_by = {{now}} + beat_timeout, check_at = {NEXT_LOOK} "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt AND holder IS NULL"
)
HELD_BY_OTHER = Statement(
    "SELECT holder FROM durable_outbox WHERE execution = :execution AND command = :command AND attempt = :attempt"
)
LOOK = Statement(
    "SELECT {now}, (SELECT MIN(check_at) FROM durable_inbox WHERE check_at IS NOT NULL), "
    "(SELECT MIN(check_at) FROM durable_outbox WHERE check_at IS NOT NULL), (SELECT MIN(last_seen) FROM durable_workers), "
    "(SELECT MIN(check_at) FROM durable_schedules WHERE check_at IS NOT NULL), "
    "(SELECT MIN(ready_at) FROM durable_waiting), (SELECT MIN(id) FROM durable_places), "
    "(SELECT MIN(purge_at) FROM durable_instances WHERE purge_at IS NOT NULL)"
)
DUE_WAKES = Statement(
    "SELECT b.id, b.kind, b.instance, b.execution, b.command, b.visible_at, b.wake_at, b.sends, i.name, i.queue, i.canvas, "
    "i.status, {now}, b.check_at FROM durable_inbox b LEFT JOIN durable_instances i ON i.id = b.instance "
    "WHERE b.check_at <= {once} ORDER BY b.check_at, b.id LIMIT :limit"
)
MOVE_WAKE = Statement(
    "UPDATE durable_inbox SET check_at = :next, sends = sends + :sends WHERE id = :id AND check_at = :seen"
)
DROP_WAKE = Statement("DELETE FROM durable_inbox WHERE id = :id")
DUE_ACTIVITIES = Statement(
    "SELECT o.execution, o.command, o.attempt, o.instance, o.kind, o.name, o.message, o.queue, o.sends, o.sent_at, o.holder, "
    "o.is_delegated, o.check_at, o.deadline_at, o.start_by, o.beat_by, COALESCE(o.crashes, 0), "
    "(SELECT i.root_id FROM durable_instances i WHERE i.id = o.instance), {now} FROM durable_outbox o WHERE o.check_at <= {once} "
    "ORDER BY o.check_at, o.execution, o.command LIMIT :limit"
)
MOVE_ACTIVITY = Statement(
    "UPDATE durable_outbox SET check_at = :next, sends = sends + :sends, sent_at = COALESCE(:sent_at, sent_at) "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt AND check_at = :seen"
)
_POSTPONE = (
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, check_at = CASE WHEN deadline_at IS NULL "
    "OR {now} + :delay < deadline_at THEN {now} + :delay ELSE deadline_at END "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt AND kind = 'activity'"
)
POSTPONE = Statement(_POSTPONE)
POSTPONE_FREE = Statement(f"{_POSTPONE} AND holder IS NULL")
UNSEND = Statement(
    "UPDATE durable_outbox SET sent_at = NULL, check_at = {now} + :delay WHERE execution = :execution "
    "AND command = :command AND attempt = :attempt AND holder IS NULL"
)
INTERRUPTED = Statement(
    "SELECT o.instance, o.kind, o.name, o.message, o.queue, o.sends, i.root_id FROM durable_outbox o "
    "LEFT JOIN durable_instances i ON i.id = o.instance WHERE o.execution = :execution AND o.command = :command "
    "AND o.attempt = :attempt"
)
INTERRUPT = Statement(
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, sends = sends + 1, sent_at = {now}, "
    "check_at = {now} + :resend_after, crashes = COALESCE(crashes, 0) + 1 "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt"
)
DELEGATE = Statement(
    "UPDATE durable_outbox SET is_delegated = {true}, holder = NULL, check_at = deadline_at "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt"
)
DROP_FINISH = Statement(
    "DELETE FROM durable_outbox WHERE execution = :execution AND command = 0 AND attempt = 0 AND instance = :id "
    "AND kind = 'finish'"
)
ABANDONED = Statement(
    "SELECT w.id, 1 FROM durable_workers w WHERE w.last_seen <= {once} - :lease UNION ALL SELECT DISTINCT o.holder, 0 "
    "FROM durable_outbox o LEFT JOIN durable_workers w ON w.id = o.holder WHERE o.holder IS NOT NULL AND w.id IS NULL LIMIT 40"
)
FREE_HELD = Statement(
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, check_at = {now}, sends = sends + 1, "
    "crashes = COALESCE(crashes, 0) + 1 WHERE holder = :worker "
    "AND NOT EXISTS (SELECT 1 FROM durable_workers w WHERE w.id = :worker)"
)
FREE_ONE = Statement(
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, check_at = {now}, sends = sends + 1 "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt AND holder = :worker"
)
UNREGISTER_SILENT = Statement("DELETE FROM durable_workers WHERE id = :id AND last_seen <= {now} - :lease")
HEARTBEAT_ACTIVITY = Statement(
    f"UPDATE durable_outbox SET beat_by = {{now}} + beat_timeout, details = COALESCE(:details, details), "
    f"check_at = CASE WHEN beat_timeout IS NULL THEN check_at ELSE {NEXT_LOOK} END "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt"
)
CRASHED = Statement("UPDATE durable_instances SET crashes = crashes + :by WHERE id = :id")
CRASHES = Statement("SELECT crashes FROM durable_instances WHERE id = :id")


class SweepTables(ScheduleTables):
    """The part of the store that recovery and liveness go through."""

    # -- workers ------------------------------------------------------------------------------------------

    def beat(self, worker: str, hostname: str) -> None:
        """Say that a worker lives; registers it again if its row was taken for dead."""
        if not self.database.change_one(HEARTBEAT, id=worker):
            self.database.change_one(REGISTER, id=worker, hostname=hostname[:200])

    def unregister(self, worker: str) -> None:
        """Forget a worker that stops in good order; what it held is free at once."""
        self.database.transact(lambda cursor: self.database.run(cursor, UNREGISTER, id=worker))

    def mark_held(self, worker: str, tickets: Iterable[ActivityTicket]) -> None:
        """Note which activities a worker has begun to run; each is marked once."""
        rows = [{**ticket._asdict(), "worker": worker} for ticket in sorted(tickets)]
        if rows:
            self.database.transact(lambda cursor: self.database.run_many(cursor, MARK, rows))

    def free_abandoned(self, lease: int) -> int:
        """Free what silent and forgotten workers hold; return how many rows became due."""
        run = self.database.run
        found = self.database.read(lambda cursor: run(cursor, ABANDONED, lease=lease).fetchall())
        if not found:
            return 0

        def free(cursor: Cursor) -> int:
            gone = {
                worker
                for worker, is_silent in found
                if not is_silent or run(cursor, UNREGISTER_SILENT, id=worker, lease=lease).rowcount
            }
            return sum(run(cursor, FREE_HELD, worker=worker).rowcount for worker in sorted(gone))

        return self.database.transact(free)

    def free_held(self, ticket: ActivityTicket, worker: str) -> bool:
        """Free an activity that a living worker is marked with and does not run; False if there is none such."""
        return self._one(FREE_ONE, ticket, worker=worker)

    # -- what is due --------------------------------------------------------------------------------------

    def look(self, lease: int) -> Look:
        """Tell what there is to repair; see ``RecoveryStore``."""
        now, inbox, outbox, seen, schedule, ready, place, purge = self.database.fetch_one(LOOK)
        return Look(
            has_wakes=inbox is not None and inbox <= now,
            has_activities=outbox is not None and outbox <= now,
            has_silent_workers=seen is not None and seen <= now - lease,
            schedule_in=None if schedule is None else schedule - now,
            ready_in=None if ready is None else ready - now,
            has_places=place is not None,
            has_purges=purge is not None and purge <= now,
        )

    def due_wakes(self, limit: int) -> list[DueWake]:
        """Return inbox rows whose ``check_at`` has come."""
        rows = self.database.read(lambda cursor: self.database.run(cursor, DUE_WAKES, limit=limit).fetchall())
        return [_due_wake(row) for row in rows]

    def move_wake(self, due: DueWake, after: int | None, *, sends: int = 0) -> bool:
        """Look at the row again ``after`` microseconds; False if another sweeper was first."""
        next_ = None if after is None else due.now + after
        return self.database.change_one(MOVE_WAKE, id=due.id, seen=due.check_at, next=next_, sends=sends)

    def drop_wake(self, due: DueWake) -> None:
        """Delete a row whose instance is gone or over."""
        self.database.transact(lambda cursor: self.database.run(cursor, DROP_WAKE, id=due.id))

    def due_activities(self, limit: int) -> list[DueActivity]:
        """Return outbox rows whose ``check_at`` has come."""
        rows = self.database.read(lambda cursor: self.database.run(cursor, DUE_ACTIVITIES, limit=limit).fetchall())
        return [_due_activity(row) for row in rows]

    def move_activity(self, due: DueActivity, after: int | None, *, sends: int = 0, is_sent: bool = False) -> bool:
        """Look at the row again ``after`` microseconds, or at its deadline; False if another was first."""
        moments = [due.deadline_at, due.start_by, due.beat_by, None if after is None else due.now + after]
        next_ = min((moment for moment in moments if moment is not None), default=None)
        values = {**due.row.ticket._asdict(), "seen": due.check_at, "next": next_, "sends": sends}
        return self.database.change_one(MOVE_ACTIVITY, **values, sent_at=due.now if is_sent else None)

    # -- single activities ----------------------------------------------------------------------------------

    def _one(self, statement: Statement, ticket: ActivityTicket, **values: Any) -> bool:
        return self.database.change_one(statement, **ticket._asdict(), **values)

    def postpone(self, ticket: ActivityTicket, delay: int, *, only_free: bool = False) -> bool:
        """Leave an activity to Celery's own retry for ``delay`` microseconds; ``only_free``: unless a worker holds it."""
        return self._one(POSTPONE_FREE if only_free else POSTPONE, ticket, delay=delay)

    def interrupt(self, ticket: ActivityTicket) -> ActivityRow | None:
        """Let an activity run again whose process died after its body; return what to send, or None if it is not wanted."""
        if not self._one(INTERRUPT, ticket, resend_after=self.resend_after):
            return None
        row = self.database.fetch_one(INTERRUPTED, **ticket._asdict())
        if row is None:
            return None
        instance, kind, name, message, queue, sends, root_id = row
        return ActivityRow(ticket, instance, kind, name, text_of(message) or "", queue, sends, root_id)

    def unsend(self, tickets: Sequence[ActivityTicket], delay: int = 1_000_000) -> None:
        """Note that publishing failed: recovery sends these soon."""
        for ticket in tickets:
            self._one(UNSEND, ticket, delay=delay)

    def delegate(self, ticket: ActivityTicket) -> bool:
        """Note that the activity replaced itself by another task: it is held by nobody until that ends."""
        return self._one(DELEGATE, ticket)

    def drop_finish(self, instance_id: str, execution: str) -> bool:
        """Delete the last message of an instance: it has done its work."""
        return self.database.change_one(DROP_FINISH, id=instance_id, execution=execution)

    def heartbeat(self, ticket: ActivityTicket, details: str | None) -> bool:
        """Note that an activity makes progress; False if it is not wanted any more."""
        return self._one(HEARTBEAT_ACTIVITY, ticket, details=None if details is None else details.encode())

    def count_crash(self, instance_id: str, by: int = 1) -> int:
        """Count a turn that may have crashed its process, or take that back; return how many in a row there were."""
        run = self.database.run

        def count(cursor: Cursor) -> int:
            run(cursor, CRASHED, id=instance_id, by=by)
            row = run(cursor, CRASHES, id=instance_id).fetchone()
            return 0 if row is None else int(row[0])

        return self.database.transact(count)


def _due_wake(row: Sequence[Any]) -> DueWake:
    values = list(row)
    values[10] = text_of(values[10])
    return DueWake(*values)


def _due_activity(row: Sequence[Any]) -> DueActivity:
    (execution, command, attempt, instance, kind, name, message, queue, sends, sent_at, holder, is_delegated, check_at,
     deadline_at, start_by, beat_by, crashes, root_id, now) = row  # fmt: skip
    ticket = ActivityTicket(execution, command, attempt)
    activity = ActivityRow(ticket, instance, kind, name, text_of(message) or "", queue, sends, root_id)
    return DueActivity(
        activity, sent_at, holder, bool(is_delegated), check_at, deadline_at, start_by, beat_by, crashes, now
    )
