"""Who runs an attempt of an activity: the columns of an outbox row that its run changes.

Every statement here is one row by its key. A run that is overtaken changes nothing, and hears so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine.records import (
    ActivityAttemptId,
    ActivityRow,
    ActivityStart,
    Claim,
    InstanceRow,
    ReplayPosition,
)
from . import history
from .instances import INSTANCE
from .runner import Cursor, ManyRows, Runner
from .statements import Statement
from .values import text_of

__all__ = ["activity_start", "claim", "claim_values", "read_start"]

# -- beginning -----------------------------------------------------------------------------------

# a turn that no worker took for a while, though it is due: its message lies behind others
_OVERDUE = 300_000
START_COLUMNS = (
    "o.join_command, o.window_command, o.name, o.is_delegated, o.details, o.deadline_at, EXISTS"
    " (SELECT 1 FROM durable_inbox b WHERE b.instance = i.id AND b.visible_at <= {once} AND"
    f" b.wake_at <= {{once}} - {_OVERDUE}), {{now}}"
)
BEGIN_ACTIVITY = Statement(
    f"SELECT {INSTANCE.columns}, {START_COLUMNS} FROM durable_outbox o JOIN durable_instances i ON"
    " i.id = o.instance AND i.execution = o.execution WHERE o.execution = :execution AND o.command"
    " = :command AND o.attempt = :attempt AND o.kind = 'activity'"
)
# the next look at an activity that runs: its deadline or its next heartbeat, whichever is first
NEXT_CHECK = (
    "CASE WHEN beat_timeout IS NULL THEN deadline_at WHEN deadline_at IS NULL OR {now} +"
    " beat_timeout < deadline_at THEN {now} + beat_timeout ELSE deadline_at END"
)
INSTANCE_OF = Statement(
    "SELECT instance FROM durable_outbox WHERE execution = :execution AND command = :command AND"
    " attempt = :attempt"
)
IS_FREE = (
    "execution = :execution AND command = :command AND attempt = :attempt AND kind = 'activity' AND"
    " deferred_at IS NULL AND gate IS NULL AND (holder IS NULL OR (:is_again = 1 AND holder ="
    " :worker) OR NOT EXISTS"
    " (SELECT 1 FROM durable_workers w WHERE w.id = durable_outbox.holder AND w.last_seen > {now} -"
    " :lease))"
)
# what is to be begun by then is not begun later: its time-out is to be recorded
_IN_TIME = "(start_by IS NULL OR start_by > {now})"
MAY_BEGIN = f"{IS_FREE} AND {_IN_TIME}"
TAKE = (
    f"holder = :worker, start_by = NULL, check_at = {NEXT_CHECK}, beat_by = {{now}} + beat_timeout"
)
CLAIM = Statement(f"UPDATE durable_outbox SET {TAKE} WHERE {MAY_BEGIN}")
# a process that is no worker shows no heartbeat: it may run the activity, and recovery keeps
# looking
RUN_UNCLAIMED = Statement(f"UPDATE durable_outbox SET start_by = NULL WHERE {MAY_BEGIN}")

# -- at most once --------------------------------------------------------------------------------

_THIS = (
    "WHERE execution = :execution AND command = :command AND attempt = :attempt AND kind ="
    " 'activity'"
)
LOCK_MARK = Statement(
    f"SELECT COALESCE(crashes, 0) FROM durable_outbox {_THIS} AND gate IS NULL AND {_IN_TIME}"
    " {lock}"
)
MARK_OF = Statement(f"SELECT COALESCE(crashes, 0), instance, name FROM durable_outbox {_THIS}")
BEGIN_ONCE = Statement(
    "UPDATE durable_outbox SET holder = :worker, crashes = :mark, start_by = NULL, is_delegated ="
    f" {{false}}, check_at = {NEXT_CHECK}, beat_by = {{now}} + beat_timeout {_THIS}"
)
# a process that is no worker shows no heartbeat: no other can tell whether it lives
CHECK_LATER = Statement(
    "UPDATE durable_outbox SET check_at = CASE WHEN check_at IS NULL OR check_at > {now} +"
    f" :delay THEN {{now}} + :delay ELSE check_at END {_THIS}"
)
POSTPONE_ONCE = Statement(
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, crashes = :waiting,"
    " check_at = CASE WHEN deadline_at IS NULL OR {now} + :delay < deadline_at THEN {now} +"
    f" :delay ELSE deadline_at END {_THIS} AND crashes = :mark"
)
DELEGATE_ONCE = Statement(
    "UPDATE durable_outbox SET is_delegated = {true}, holder = NULL, crashes = :waiting,"
    f" check_at = deadline_at {_THIS} AND crashes = :mark"
)

# -- while it runs -------------------------------------------------------------------------------

CLAIMED_BY = Statement(
    "SELECT execution, command, attempt FROM durable_outbox WHERE holder = :worker ORDER BY"
    " execution, command, attempt"
)
_MINE = "(holder IS NULL OR holder = :worker)"
_POSTPONE = (
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, check_at = CASE WHEN"
    " deadline_at IS NULL OR {now} + :delay < deadline_at THEN {now} + :delay ELSE deadline_at END"
    " WHERE execution = :execution AND command = :command AND attempt = :attempt AND kind ="
    " 'activity'"
)
POSTPONE = Statement(f"{_POSTPONE} AND {_MINE}")
POSTPONE_FREE = Statement(f"{_POSTPONE} AND holder IS NULL")
UNSEND = Statement(
    "UPDATE durable_outbox SET sent_at = NULL, check_at = {now} + :delay WHERE execution ="
    " :execution AND command = :command AND attempt = :attempt AND holder IS NULL AND gate IS NULL"
)
DELEGATE = Statement(
    "UPDATE durable_outbox SET is_delegated = {true}, holder = NULL, check_at = deadline_at "
    "WHERE execution = :execution AND command = :command AND attempt = :attempt AND gate IS NULL"
)
# the body has ended, and another one brings the outcome: from here on no worker may begin it, and
# recovery looks at its time limits alone; is_delegated says that to earlier releases too
DEFER = Statement(
    "UPDATE durable_outbox SET is_delegated = {true}, deferred_at = {now}, holder = NULL, start_by"
    f" = NULL, beat_by = {{now}} + beat_timeout, check_at = {NEXT_CHECK} {_THIS} AND deferred_at IS"
    " NULL AND gate IS NULL"
)
# who brings the outcome waits for the transaction that this is a part of
LOCK_ATTEMPT = Statement(f"UPDATE durable_outbox SET sends = sends {_THIS}")
IS_DEFERRED = Statement(f"SELECT 1 FROM durable_outbox {_THIS} AND deferred_at IS NOT NULL")
# one that lies in a queue again, as its worker is lost, is not kept there by this
HEARTBEAT_OUTSIDE = Statement(
    "UPDATE durable_outbox SET details = COALESCE(:details, details), check_at = CASE WHEN"
    " beat_timeout IS NULL OR (holder IS NULL AND deferred_at IS NULL) THEN check_at ELSE"
    f" {NEXT_CHECK} END, beat_by = CASE WHEN holder IS NULL AND deferred_at IS NULL THEN beat_by"
    f" ELSE {{now}} + beat_timeout END {_THIS}"
)
HEARTBEAT_ACTIVITY = Statement(
    "UPDATE durable_outbox SET beat_by = {now} + beat_timeout, details = COALESCE(:details,"
    " details), check_at = CASE WHEN beat_timeout IS NULL OR gate IS NOT NULL THEN check_at ELSE"
    f" {NEXT_CHECK} END WHERE execution = :execution AND command = :command AND attempt = :attempt"
)

# -- a pause holds it ----------------------------------------------------------------------------

QUEUE_OF = Statement(
    "SELECT queue FROM durable_outbox WHERE execution = :execution AND command = :command AND"
    " attempt = :attempt"
)
CLOSE_GATE = Statement(
    "UPDATE durable_outbox SET gate = 'paused', holder = NULL, beat_by = NULL, check_at = NULL,"
    " deadline_at = deadline_at - COALESCE(sent_at, {now}), start_by = start_by - COALESCE(sent_at,"
    f" {{now}}) WHERE {IS_FREE}"
)
# recovery sends what was never sent, in the order of its time to look
OPEN_GATES = ManyRows(
    "UPDATE durable_outbox SET gate = NULL, check_at = COALESCE(sent_at, {now}), sent_at = NULL,"
    " deadline_at = deadline_at + {now}, start_by = start_by + {now} WHERE gate = 'paused' AND"
    " ({these})",
    *ActivityAttemptId._fields,
)

# -- it waits for slots --------------------------------------------------------------------------

LOCK_LIMITED = ManyRows(
    "SELECT execution, command, attempt, instance, kind, name, message, queue, sends FROM"
    " durable_outbox WHERE gate = 'limit' AND ({these}) {skip_locked}",
    *ActivityAttemptId._fields,
)
# MySQL sets the columns in this order, each from what is there by then
OPEN_LIMITED = ManyRows(
    "UPDATE durable_outbox SET gate = NULL, sent_at = :now, check_at = {least}(:later,"
    " COALESCE(deadline_at + :now, :later), COALESCE(start_by + :now, :later)), deadline_at ="
    " deadline_at + :now, start_by = start_by + :now WHERE {these}",
    *ActivityAttemptId._fields,
)

# -- its worker is gone --------------------------------------------------------------------------

INTERRUPTED = Statement(
    "SELECT o.instance, o.kind, o.name, o.message, o.queue, o.sends, i.root_id FROM durable_outbox"
    " o LEFT JOIN durable_instances i ON i.id = o.instance WHERE o.execution = :execution AND"
    " o.command = :command AND o.attempt = :attempt"
)
INTERRUPT = Statement(
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, sends = sends + 1,"
    " sent_at = {now}, check_at = {now} + :resend_after, crashes = COALESCE(crashes, 0) + 1 WHERE"
    " execution = :execution AND command = :command AND attempt = :attempt AND gate IS NULL"
)
FREE_CLAIMED = Statement(
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, check_at = {now},"
    " sends = sends + 1, crashes = COALESCE(crashes, 0) + 1 WHERE holder = :worker AND NOT EXISTS"
    " (SELECT 1 FROM durable_workers w WHERE w.id = :worker)"
)
FREE_ONE = Statement(
    "UPDATE durable_outbox SET holder = NULL, start_by = NULL, beat_by = NULL, check_at = {now},"
    " sends = sends + 1 WHERE execution = :execution AND command = :command AND attempt = :attempt"
    " AND holder = :worker"
)


def claim_values(ticket: ActivityAttemptId, claim: Claim) -> dict[str, Any]:
    """Return the parameters of a claim."""
    return {
        **ticket._asdict(),
        "worker": claim.worker,
        "lease": claim.lease,
        "is_again": int(claim.is_again),
    }


def claim(database: Runner, cursor: Cursor, ticket: ActivityAttemptId, claim: Claim) -> bool:
    """Mark an activity as taken by a worker; False if it is not wanted, or another has it."""
    statement = RUN_UNCLAIMED if claim.worker is None else CLAIM
    claimed: int = database.run(cursor, statement, **claim_values(ticket, claim)).rowcount
    return claimed == 1


def read_start(
    database: Runner, cursor: Cursor, ticket: ActivityAttemptId, known: ReplayPosition | None
) -> ActivityStart | None:
    """Look at an activity that is about to run, with its instance and the history that is not
    known.
    """
    row = database.run(cursor, BEGIN_ACTIVITY, **ticket._asdict()).fetchone()
    if row is None:
        return None
    instance, rest = INSTANCE.take(row)
    start = activity_start(instance, [], rest)
    # a member of a join does not take the turn with its own outcome
    if start.join_command is None:
        rows = history.unknown(database, cursor, instance.id, known)
        start.history = history.texts(rows, instance.sequence)
    return start


def activity_start(
    instance: InstanceRow, history: list[str], columns: Sequence[Any]
) -> ActivityStart:
    """Build the engine's view of an activity from ``START_COLUMNS``."""
    join, window, name, is_delegated, details, deadline_at, wants_turn, now = columns
    return ActivityStart(
        instance,
        history,
        join,
        window,
        name,
        bool(is_delegated),
        text_of(details),
        deadline_at,
        bool(wants_turn),
        now,
    )


def interrupted(database: Runner, cursor: Cursor, ticket: ActivityAttemptId) -> ActivityRow | None:
    """Return an activity as it is sent again."""
    row = database.run(cursor, INTERRUPTED, **ticket._asdict()).fetchone()
    if row is None:
        return None
    instance, kind, name, message, queue, sends, root_id = row
    return ActivityRow(ticket, instance, kind, name, text_of(message) or "", queue, sends, root_id)
