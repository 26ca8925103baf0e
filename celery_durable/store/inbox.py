"""The table of inboxes: messages to instances, until a turn takes them into history.

An insert never waits for a turn: it locks no row of another table. The key of instance and
``dedup`` lets a message in once, however often it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..core.plain_task import CARRIER, TASK
from ..engine.due import DueWake
from ..engine.records import ActivityAttemptId, Deferral, InboxKind, Outcome
from ..engine.writes import NewInbox, NewInstance, refused_request
from .runner import Cursor, ManyRows, ManyValues, Runner
from .statements import Shape, Statement
from .values import blob, facts_of, numbers, portions, text_of

__all__ = [
    "FAR",
    "deferred_message",
    "delete",
    "inbox_values",
    "insert",
    "join_dedup",
    "outcome_dedup",
    "outcome_message",
    "refusals",
    "send",
    "send_to_all",
    "start_message",
]

#: When a message is visible that a commit has yet to show: never, and still a date.
FAR = 253_000_000_000_000_000
_TRIES = 3

# -- what a turn changes -------------------------------------------------------------------------

RESET_JOIN = Statement(
    "UPDATE durable_inbox SET wake_at = NULL, check_at = :check_at WHERE id = :row"
)
CANCEL_DEDUP = Statement("DELETE FROM durable_inbox WHERE instance = :id AND dedup = :dedup")
FAILED_OUTCOME = Statement(
    "SELECT 1 FROM durable_inbox WHERE instance = :id AND dedup = :dedup AND kind ="
    " 'ActivityFailed'"
)
CLEAR_INBOX = Statement("DELETE FROM durable_inbox WHERE instance = :id")
DROP_INBOX = Statement(
    "DELETE FROM durable_inbox WHERE instance = :id AND visible_at <= :until AND ABS(visible_at) <="
    " :until"
)
DROP_LAPSING = ManyRows("DELETE FROM durable_inbox WHERE instance = :id AND ({these})", "kind")
CLEAR_EXECUTION = Statement(
    "DELETE FROM durable_inbox WHERE instance = :id AND execution = :execution"
)
PARK_INBOX = Statement("UPDATE durable_inbox SET check_at = NULL WHERE instance = :id")
PARK_PAUSED = Statement(f"{PARK_INBOX.sql} AND kind <> '{InboxKind.TERMINATE}'")
WAKE_INBOX = Statement(
    "UPDATE durable_inbox SET check_at = CASE WHEN visible_at > :far THEN visible_at - :horizon"
    " ELSE :check_at END WHERE instance = :id AND (wake_at IS NOT NULL OR kind = 'Join')"
)
# by the time since which it was held, recovery sends the oldest first
WAKE_HELD = Statement(
    "UPDATE durable_inbox SET check_at = CASE WHEN visible_at > :far THEN visible_at - :horizon"
    " ELSE :since END, sends = CASE WHEN visible_at > {now} THEN sends ELSE -1 END WHERE instance ="
    " :instance AND (wake_at IS NOT NULL OR kind = 'Join')"
)
# a microsecond between two: they keep the order of their numbers
SHOW_INBOX = Statement(
    "UPDATE durable_inbox SET visible_at = :sum - visible_at WHERE instance = :id AND visible_at >"
    " :begin AND visible_at <= :end"
)
DISCARD = (
    "DELETE FROM durable_inbox WHERE id IN ({these}) AND EXISTS (SELECT 1 FROM durable_instances i"
    " WHERE i.id = :id AND i.execution = :execution AND i.status IN ('COMPLETED', 'FAILED',"
    " 'CANCELED', 'TERMINATED'))"
)

# -- arrivals ------------------------------------------------------------------------------------

_INBOX_COLUMNS = (
    "instance, dedup, kind, execution, command, attempt, name, payload, facts, visible_at, wake_at,"
    " check_at, sends"
)
_INBOX_VALUES = (
    ":instance, :dedup, :kind, :execution, :command, :attempt, :name, :payload, :facts, "
    ":visible_at, :wake_at, :check_at, 0"
)
INSERT_INBOX = Statement(
    f"INSERT INTO durable_inbox ({_INBOX_COLUMNS}) VALUES ({_INBOX_VALUES}) {{if_new}}"
)
INSERT_INBOXES = ManyValues(INSERT_INBOX)
# only to instances that can still take it; also the one statement by which anything reaches another
# instance
SEND_INBOX = Statement(
    f"INSERT INTO durable_inbox ({_INBOX_COLUMNS}) SELECT i.id, :dedup, :kind, :execution,"
    " CAST(:command AS {integer}), CAST(:attempt AS {integer}), :name, CAST(:payload AS"
    " {bytes}), :facts, CAST(:visible_at AS {bigint}), CAST(:wake_at AS {bigint}),"
    " CAST(:check_at AS {bigint}), 0 FROM durable_instances i WHERE i.id = :instance AND"
    " i.status IN ('PENDING', 'RUNNING', 'SUSPENDED') {if_new}"
)
# one message to several instances that can still take it, as far as they do not have it
SEND_TO_ALL = ManyRows(
    SEND_INBOX.sql.replace("i.id = :instance", "({these})").replace(
        " {if_new}",
        " AND NOT EXISTS (SELECT 1 FROM durable_inbox b WHERE b.instance = i.id AND b.dedup ="
        " :same) ORDER BY i.id {if_new}",
    ),
    "id",
)
#: True of an instance ``i`` that has failed and is about to be rewound.
WILL_BE_REWOUND = (
    "i.status = 'FAILED' AND EXISTS "
    "(SELECT 1 FROM durable_inbox b WHERE b.instance = i.id AND b.kind = 'RewindRequested')"
)
# what ends a child also reaches one that has failed and is about to be rewound
SEND_ENDING = Statement(
    SEND_INBOX.sql.replace(
        "i.status IN ('PENDING', 'RUNNING', 'SUSPENDED')",
        f"(i.status IN ('PENDING', 'RUNNING', 'SUSPENDED') OR ({WILL_BE_REWOUND}))",
    )
)
WISHES = Statement(
    "SELECT payload, facts FROM durable_inbox WHERE instance = :id AND kind = 'RewindRequested'"
)
WAKE_JOIN = Statement(
    "UPDATE durable_inbox SET wake_at = {now}, check_at = {now} + :resend_after "
    "WHERE instance = :id AND dedup = :dedup AND wake_at IS NULL"
)
WAS_RECORDED = Statement(
    "SELECT 1 FROM durable_inbox WHERE dedup = :dedup AND instance = :id LIMIT 1"
)
SHOW_START = Statement(
    "UPDATE durable_inbox SET visible_at = :shown, wake_at = :now, check_at = :check_at "
    "WHERE instance = :instance AND dedup = :dedup"
)
# its parent was rewound and waits for it
IS_TO_REWIND = Statement(
    "SELECT 1 FROM durable_inbox WHERE instance = :id AND kind = 'RewindRequested' LIMIT 1"
)

# -- recovery ------------------------------------------------------------------------------------

DUE_WAKES_IF = (
    "SELECT b.id, b.kind, b.instance, b.execution, b.command, b.visible_at, b.wake_at, b.sends,"
    f" CASE WHEN i.version = '{TASK}' THEN '{CARRIER}' ELSE i.name END,"
    " i.queue, i.canvas, i.status, {now}, b.check_at FROM durable_inbox b LEFT JOIN"
    " durable_instances i ON i.id = b.instance WHERE b.check_at <= {once} AND (b.sends < 0 OR"
    " b.visible_at > {once} OR b.wake_at IS NULL OR i.id IS NULL OR i.status NOT IN ('PENDING',"
    " 'RUNNING') OR {lost}) ORDER BY b.check_at, b.id LIMIT :limit"
)
DUE_WAKES = Statement(DUE_WAKES_IF.replace("{lost}", "{true}"))
FRESH_WAKES = Statement(
    "SELECT 1 FROM durable_inbox WHERE check_at > :after AND check_at <= {once} + :ahead AND sends"
    " >= 0 AND wake_at IS NOT NULL AND visible_at <= {once} LIMIT 1"
)
MOVE_WAKE = Statement(
    "UPDATE durable_inbox SET check_at = :next, sends = :sends WHERE id = :id AND check_at = :seen"
)
LOCK_WAKES = ManyRows(
    "SELECT id, check_at FROM durable_inbox WHERE {these} {skip_locked}", "id", "check_at"
)
RESEND_WAKES = ManyRows(
    "UPDATE durable_inbox SET check_at = :next, sends = :sends WHERE {these}", "id"
)
DROP_WAKE = Statement("DELETE FROM durable_inbox WHERE id = :id")
KEEP_WAKES = ManyRows(
    "UPDATE durable_inbox SET check_at = {now} + :delay WHERE check_at <= {now} AND visible_at <="
    " {now} AND wake_at IS NOT NULL AND ({these})",
    "instance",
)
# what is visible at once has not to wait for a moment
CHECK_SOONER = Statement(
    "UPDATE durable_inbox SET check_at = {now} + :most WHERE check_at > {now} + :most AND"
    " visible_at <= 0"
)
DUE = Shape(DueWake, decode={"canvas": text_of})


def join_dedup(execution: str, join: int) -> str:
    """Return the key of a join's inbox row."""
    return f"join:{execution}:{join}"


def outcome_dedup(ticket: ActivityAttemptId) -> str:
    """Return the key of an outcome's inbox row."""
    return f"outcome:{ticket.execution}:{ticket.command}:{ticket.attempt}"


def inbox_values(message: NewInbox, now: int) -> dict[str, Any]:
    """Return the parameters of ``INSERT_INBOX``."""
    visible_at = message.visible_at if message.aside is None else FAR + message.aside
    moment = visible_at if visible_at is not None else message.since or now
    check_at = None if message.check_after is None else moment + message.check_after
    return {
        "instance": message.instance,
        "dedup": message.dedup,
        "kind": str(message.kind),
        "execution": message.execution,
        "command": message.command,
        "attempt": message.attempt,
        "name": message.name,
        "payload": blob(message.payload),
        "facts": json.dumps(message.facts) if message.facts else None,
        "visible_at": -moment if visible_at is None else moment,  # see ``schema``
        "wake_at": moment if message.wakes else None,
        "check_at": check_at,
    }


def outcome_message(outcome: Outcome, instance: str, wakes: bool, resend_after: int) -> NewInbox:
    """Return the inbox row of an outcome."""
    ticket = outcome.ticket
    return NewInbox(
        instance,
        outcome.kind,
        outcome_dedup(ticket),
        execution=ticket.execution,
        command=ticket.command,
        attempt=ticket.attempt,
        payload=outcome.payload,
        facts=outcome.facts,
        wakes=wakes,
        check_after=resend_after if wakes else None,
    )


def deferred_message(deferral: Deferral, instance: str, wakes: bool, resend_after: int) -> NewInbox:
    """Return the inbox row that tells of an attempt whose outcome comes by its token."""
    ticket, ran = deferral
    return NewInbox(
        instance,
        deferral.kind,
        f"deferred:{ticket.execution}:{ticket.command}:{ticket.attempt}",
        execution=ticket.execution,
        command=ticket.command,
        attempt=ticket.attempt,
        facts=None if ran is None else {"ran": ran},
        wakes=wakes,
        check_after=resend_after if wakes else None,
    )


def start_message(new: NewInstance) -> NewInbox:
    """Return the message that makes a new orchestration begin.

    One that waits for admission does not see it.
    """
    if new.admission is not None:
        dedup = f"start:{new.execution}"
        return NewInbox(
            new.id,
            "ExecutionStarted",
            dedup,
            execution=new.execution,
            facts=new.facts,
            visible_at=FAR,
            wakes=False,
        )
    return NewInbox(
        new.id,
        "ExecutionStarted",
        f"start:{new.execution}",
        execution=new.execution,
        facts=new.facts,
        visible_at=new.start_at,
        wakes=not new.awaits_message,
        check_after=new.check_after,
    )


def insert(database: Runner, cursor: Cursor, message: NewInbox, now: int) -> None:
    """Insert a message, if it is not there yet, whatever the status of its instance."""
    database.run(cursor, INSERT_INBOX, **inbox_values(message, now))


def insert_many(database: Runner, cursor: Cursor, messages: Sequence[NewInbox], now: int) -> None:
    """Insert messages, as far as they are not there yet."""
    database.run_many(cursor, INSERT_INBOX, [inbox_values(message, now) for message in messages])


def send(database: Runner, cursor: Cursor, message: NewInbox, now: int) -> int:
    """Insert a message if its instance can still take it; return 1 if it is new, else 0."""
    statement = SEND_ENDING if message.kind in InboxKind.ENDING else SEND_INBOX
    return int(database.run(cursor, statement, **inbox_values(message, now)).rowcount)


def send_to_all(
    database: Runner, cursor: Cursor, message: NewInbox, ids: Sequence[str], now: int
) -> int:
    """Insert a message for each of these instances that can take it, in the order of their ids;
    return how many are new.
    """
    values, sent = {**inbox_values(message, now), "same": message.dedup}, 0
    del values["instance"]
    for part in portions(sorted(ids)):
        keys = [(id_,) for id_ in part]
        for _ in range(_TRIES):
            new = int(SEND_TO_ALL.run(database, cursor, keys, **values).rowcount)
            sent += new
            # MySQL inserts none where another transaction has just inserted one of them
            if new or database.family != "mysql":
                break
    return sent


def delete(cursor: Cursor, rows: Sequence[int]) -> None:
    """Delete the messages that a turn takes."""
    for start in range(0, len(rows), 500):
        cursor.execute(
            f"DELETE FROM durable_inbox WHERE id IN ({numbers(rows[start : start + 500])})"
        )


def discarding(rows: Sequence[int]) -> Statement:
    """Return the statement that deletes rows of an execution that is over."""
    return Statement(DISCARD.replace("{these}", numbers(rows)))


def refusals(database: Runner, cursor: Cursor, instance_id: str) -> list[NewInbox]:
    """Return answers for the parent that waits for a rewind of an instance whose messages are about
    to be deleted.
    """
    rows = database.run(cursor, WISHES, id=instance_id).fetchall()
    answers = [
        refused_request(text_of(payload), facts_of(facts or "{}")) for payload, facts in rows
    ]
    return [answer for answer in answers if answer is not None]


def due_wake(row: Sequence[Any]) -> DueWake:
    """Build the engine's view of a row whose time has come."""
    return DUE.read(row)
