"""The table of outboxes: activities that are under way, and the last message of an instance.

A row is there from the commit that decides an activity until its outcome is recorded or it is
canceled. A transaction that locks an instance takes these rows only after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.history import Event, EventKind
from ..engine.activity_limits import LIMIT_GATE
from ..engine.at_most_once import MARKED, is_begun
from ..engine.due import DueActivity
from ..engine.records import ActivityAttemptId, ActivityRow
from ..engine.writes import NewActivity
from . import activity_limits
from .checks import QUEUED
from .runner import Cursor, ManyRows, Runner
from .statements import Statement
from .values import blob, numbers, text_of

__all__ = ["activity_values", "cancel", "clear", "insert", "notes_of", "release_slots"]

# -- what a turn changes -------------------------------------------------------------------------

INSERT_ACTIVITY = Statement(
    "INSERT INTO durable_outbox (execution, command, attempt, instance, kind, name, message, queue,"
    " join_command, window_command, is_held, is_delegated, sent_at, sends, holder, check_at,"
    " deadline_at, start_by, beat_by, beat_timeout, details, gate) VALUES (:execution, :command,"
    " :attempt, :instance, :kind, :name, :message, :queue, :join_command, :window_command,"
    " :is_held, {false}, :sent_at, 0, NULL, :check_at, :deadline_at, :start_by, NULL,"
    " :beat_timeout, NULL, :gate)"
)
DELETE_ACTIVITY = Statement(
    "DELETE FROM durable_outbox WHERE execution = :execution AND command = :command AND attempt ="
    " :attempt"
)
CHANGE_JOIN = Statement(
    "UPDATE durable_outbox SET join_command = :join_command WHERE execution = :execution AND"
    " command = :command"
)
CLEAR_OUTBOX = Statement(
    "DELETE FROM durable_outbox WHERE execution = :execution AND kind = 'activity'"
)
# a run that marks one of these meanwhile waits, and then finds it gone
CLEAR_UNMARKED = Statement(f"{CLEAR_OUTBOX.sql} AND COALESCE(crashes, 0) < {MARKED}")
LOCK_MARKED = Statement(
    "SELECT command, attempt, name, crashes FROM durable_outbox WHERE execution = :execution AND"
    " kind = 'activity' {lock}"
)
DROP_FINISH = Statement(
    "DELETE FROM durable_outbox WHERE execution = :execution AND kind = 'finish'"
)

# -- outcomes and windows ------------------------------------------------------------------------

LOCK_OUTCOME = Statement(
    "SELECT instance, join_command, window_command, {now} FROM durable_outbox WHERE execution ="
    " :execution AND command = :command AND attempt = :attempt AND kind = 'activity' {lock}"
)
NEXT_THROTTLED = Statement(
    "SELECT command, attempt, instance, kind, name, message, queue, sends, deadline_at, start_by,"
    " gate FROM durable_outbox WHERE execution = :execution AND window_command = :window AND"
    " is_held = {true} ORDER BY command LIMIT 1 {skip_locked}"
)
RELEASE = Statement(
    "UPDATE durable_outbox SET is_held = {false}, sent_at = :now, check_at = :check_at, deadline_at"
    " = :deadline_at, start_by = :start_by WHERE execution = :execution AND command = :command AND"
    " attempt = :attempt"
)
# its time limits stay relative
RELEASE_LIMITED = Statement(
    "UPDATE durable_outbox SET is_held = {false} WHERE execution = :execution AND command ="
    " :command AND attempt = :attempt"
)
COUNT_LET_GO = Statement(
    "SELECT COUNT(*) FROM durable_outbox WHERE execution = :execution AND window_command = 0 AND"
    " is_held = {false}"
)
OPEN_MEMBER = Statement(
    "SELECT 1 FROM durable_outbox WHERE execution = :execution AND join_command = :join ORDER BY"
    " command DESC LIMIT 1"
)

# -- recovery ------------------------------------------------------------------------------------

FRESH_ACTIVITIES = Statement(
    f"SELECT 1 FROM durable_outbox WHERE {QUEUED} AND check_at > :after AND check_at <= {{once}} +"
    " :ahead LIMIT 1"
)
# the messages of these have been received, and are with a worker
KEEP_ACTIVITIES = ManyRows(
    "UPDATE durable_outbox SET check_at = {least}({now} + :delay, COALESCE(deadline_at, {now} +"
    " :delay), COALESCE(start_by, {now} + :delay)) WHERE check_at <= {now} + :ahead AND sent_at IS"
    " NOT NULL AND holder IS NULL AND (deadline_at IS NULL OR deadline_at > {now}) AND (start_by IS"
    " NULL OR start_by > {now}) AND ({these})",
    *ActivityAttemptId._fields,
)
MOVE_ACTIVITY = Statement(
    "UPDATE durable_outbox SET check_at = :next, sends = sends + :sends, sent_at ="
    " COALESCE(:sent_at, sent_at) WHERE execution = :execution AND command = :command AND attempt ="
    " :attempt AND check_at = :seen"
)
LOCK_ACTIVITIES = ManyRows(
    "SELECT execution, command, attempt, check_at FROM durable_outbox WHERE {these} {skip_locked}",
    *ActivityAttemptId._fields,
    "check_at",
)
RESEND_ACTIVITIES = ManyRows(
    "UPDATE durable_outbox SET check_at = {least}(:later, COALESCE(deadline_at, :later),"
    " COALESCE(start_by, :later), COALESCE(beat_by, :later)), sends = sends + :sends, sent_at ="
    " :sent_at WHERE {these}",
    *ActivityAttemptId._fields,
)
# should the database lose this, Celery is notified once more, as after a crash just before it
FINISH_DONE = Statement(
    "DELETE FROM durable_outbox WHERE execution = :execution AND command = 0 AND attempt = 0 AND"
    " instance = :id AND kind = 'finish' {unhurried}"
)
FINISHES_DONE = ManyRows(
    "DELETE FROM durable_outbox WHERE command = 0 AND attempt = 0 AND kind = 'finish' AND ({these})"
    " {unhurried}",
    "instance",
    "execution",
)
PURGE_OUTBOX = Statement("DELETE FROM durable_outbox WHERE execution = :execution")
# what is on its way has not to wait for a moment
CHECK_SOONER = Statement(
    "UPDATE durable_outbox SET check_at = {now} + :most, sent_at = CASE WHEN sent_at > {now}"
    " THEN {now} ELSE sent_at END, beat_by = CASE WHEN beat_by > {now} + beat_timeout THEN"
    " {now} + beat_timeout ELSE beat_by END WHERE check_at > {now} + :most"
)


def activity_values(
    new: NewActivity, instance: str, execution: str, now: int, resend_after: int
) -> dict[str, Any]:
    """Return the parameters of ``INSERT_ACTIVITY``.

    The time limits of a held one count from its release, those of one that needs slots from when
    it is admitted.
    """
    waits = new.is_held or bool(new.permits)
    base = 0 if waits else now
    deadline_at = None if new.timeout is None else base + new.timeout
    start_by = None if new.start_timeout is None else base + new.start_timeout
    look = now + resend_after if new.is_sent else now
    looks = (
        [] if waits else [moment for moment in (look, deadline_at, start_by) if moment is not None]
    )
    return {
        "execution": execution,
        "command": new.command,
        "attempt": new.attempt,
        "instance": instance,
        "kind": new.kind,
        "name": new.name,
        "message": blob(new.message),
        "queue": new.queue,
        "join_command": new.join_command,
        "window_command": new.window_command,
        "is_held": new.is_held,
        "sent_at": now if new.is_sent and not waits else None,
        "check_at": min(looks, default=None),
        "deadline_at": deadline_at,
        "start_by": start_by,
        "beat_timeout": new.heartbeat_timeout,
        "gate": LIMIT_GATE if new.permits else None,
    }


def insert(database: Runner, cursor: Cursor, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert activities, from the parameters that ``activity_values`` gives."""
    database.run_many(cursor, INSERT_ACTIVITY, rows)


def delete(database: Runner, cursor: Cursor, ticket: ActivityAttemptId) -> bool:
    """Delete one attempt; False if it is gone already."""
    return bool(database.run(cursor, DELETE_ACTIVITY, **ticket._asdict()).rowcount)


class Canceled(NamedTuple):
    """An activity that a turn has deleted."""

    command: int
    attempt: int
    name: str
    crashes: int | None  #: The packed mark of runs, or how often recovery sent it after a crash.
    is_held: bool  #: It waited for a slot of its window.


def cancel(
    database: Runner, cursor: Cursor, execution: str, commands: Sequence[int]
) -> dict[int, Canceled]:
    """Delete the activities of commands, and return those that were there."""
    found: dict[int, Canceled] = {}
    for start in range(0, len(commands), 500):
        these = (
            f"execution = :execution AND command IN ({numbers(commands[start : start + 500])})"
            " AND kind = 'activity'"
        )
        look = Statement(
            f"SELECT command, attempt, name, crashes, is_held FROM durable_outbox WHERE {these}"
            " {lock}"
        )
        rows = map(Canceled._make, database.run(cursor, look, execution=execution).fetchall())
        found |= {row.command: row for row in rows}
        database.run(
            cursor, Statement(f"DELETE FROM durable_outbox WHERE {these}"), execution=execution
        )
    return found


def clear(database: Runner, cursor: Cursor, execution: str) -> None:
    """Delete all activities of an execution."""
    database.run(cursor, CLEAR_OUTBOX, execution=execution)


def clear_noting(database: Runner, cursor: Cursor, execution: str, now: int) -> list[Event]:
    """Delete all activities of an execution; return notes of those that must not run again."""
    run = database.run
    run(cursor, CLEAR_UNMARKED, execution=execution)
    # only what a run may have marked is left, and now locked: no other run begins
    marked = run(cursor, LOCK_MARKED, execution=execution).fetchall()
    if marked:
        run(cursor, CLEAR_OUTBOX, execution=execution)
    return notes_of(marked, now)


def notes_of(rows: Iterable[Sequence[Any]], now: int) -> list[Event]:
    """Return notes of the activities among deleted rows that run at most once, and had begun."""
    begun = [
        (command, attempt, name)
        for command, attempt, name, crashes, *_ in rows
        if is_begun(crashes or 0)
    ]
    return [
        Event(EventKind.ACTIVITY_ABANDONED, now, command, attempt, name)
        for command, attempt, name in sorted(begun)
    ]


def release_slots(
    database: Runner,
    cursor: Cursor,
    execution: str,
    slots: Mapping[int, int],
    now: int,
    resend_after: int,
) -> list[ActivityRow]:
    """Let so many activities of each window begin, and return what is to be sent."""
    released: list[ActivityRow] = []
    for window, count in sorted(slots.items()):
        for _ in range(count):
            values = {"execution": execution, "window": window}
            row = database.run(cursor, NEXT_THROTTLED, **values).fetchone()
            if row is None:
                break
            sent = _release(database, cursor, execution, row, now, resend_after)
            released += [] if sent is None else [sent]
    return released


def _release(
    database: Runner,
    cursor: Cursor,
    execution: str,
    row: Sequence[Any],
    now: int,
    resend_after: int,
) -> ActivityRow | None:
    """Let an activity begin that waited for a slot of its window.

    Returns:
        None if it waits for slots of limits now.
    """
    command, attempt, instance, kind, name, message, queue, sends, timeout, start_timeout, gate = (
        row
    )
    ticket = ActivityAttemptId(execution, command, attempt)
    if gate == LIMIT_GATE:
        database.run(cursor, RELEASE_LIMITED, **ticket._asdict())
        database.run(cursor, activity_limits.LEAVE_WINDOW, **ticket._asdict(), now=now)
        return None
    # the time limits of one that waited for a slot are kept relative, and count from now
    deadline_at, start_by = (
        None if limit is None else now + limit for limit in (timeout, start_timeout)
    )
    moments = (now + resend_after, deadline_at, start_by)
    database.run(
        cursor,
        RELEASE,
        **ticket._asdict(),
        now=now,
        check_at=min(moment for moment in moments if moment is not None),
        deadline_at=deadline_at,
        start_by=start_by,
    )
    return ActivityRow(ticket, instance, kind, name, text_of(message) or "", queue, sends)


def due_activity(row: Sequence[Any]) -> DueActivity:
    """Build the engine's view of a row whose time has come."""
    (
        execution,
        command,
        attempt,
        instance,
        kind,
        name,
        message,
        queue,
        sends,
        sent_at,
        holder,
        is_delegated,
        check_at,
        deadline_at,
        start_by,
        beat_by,
        crashes,
        deferred_at,
        root_id,
        now,
    ) = row
    ticket = ActivityAttemptId(execution, command, attempt)
    activity = ActivityRow(
        ticket, instance, kind, name, text_of(message) or "", queue, sends, root_id
    )
    return DueActivity(
        activity,
        sent_at,
        holder,
        bool(is_delegated),
        check_at,
        deadline_at,
        start_by,
        beat_by,
        crashes or 0,
        now,
        deferred_at is not None,
    )
