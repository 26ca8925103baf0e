"""Transactions of the hot path as one statement each, for PostgreSQL.

The turn statement locks the instance if it still is where the turn saw it, takes the outcome or the
messages, and writes history, activities and instance from what it took: a loser writes nothing. It
serves commits that touch nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

from .attempts import MAY_BEGIN, START_COLUMNS, TAKE
from .inbox_reads import FIRST_OF_INBOX
from .instances import INSTANCE
from .statements import Statement

__all__ = [
    "BEGIN",
    "COLUMNS",
    "LOAD",
    "OWN_COLUMNS",
    "RECORD",
    "START",
    "STARTS_WITH_TURN",
    "TAKE_AND_BEGIN",
    "TURNS_BY_MESSAGE",
    "TURNS_WITH_OUTCOME",
]

COLUMNS = {
    "command": "INTEGER",
    "attempt": "INTEGER",
    "kind": "TEXT",
    "name": "TEXT",
    "message": "BYTEA",
    "queue": "TEXT",
    "join_command": "INTEGER",
    "window_command": "INTEGER",
    "is_held": "BOOLEAN",
    "sent_at": "BIGINT",
    "check_at": "BIGINT",
    "deadline_at": "BIGINT",
    "start_by": "BIGINT",
    "beat_timeout": "BIGINT",
}
_RELATIVE = ("sent_at", "check_at", "deadline_at", "start_by")
#: Of a message to the instance itself that has a due time; its parameters begin with ``own_``.
OWN_COLUMNS = {
    "dedup": "TEXT",
    "kind": "TEXT",
    "execution": "TEXT",
    "command": "INTEGER",
    "attempt": "INTEGER",
    "name": "TEXT",
    "payload": "BYTEA",
    "facts": "TEXT",
    "visible_at": "BIGINT",
    "wake_at": "BIGINT",
    "check_at": "BIGINT",
}


def _turn(gate: str, takes: str, empty: str, activities: str, own: str) -> Statement:
    return Statement(
        "WITH me AS (SELECT id, {now} AS now FROM durable_instances WHERE id = :id AND execution"
        f" = :execution AND sequence = :sequence AND status IN ('PENDING', 'RUNNING') {empty}"
        f" {{lock_instance}}), {takes}h AS (INSERT INTO durable_history (instance, execution,"
        " sequence, events) SELECT me.id, :execution, :sequence + 1, CAST(:events AS BYTEA) FROM"
        f" me, {gate}), {activities.format(gate=gate)}{own}up AS (UPDATE"
        " durable_instances i SET sequence = i.sequence + 1, status = COALESCE(:status, i.status),"
        " output = COALESCE(CAST(:output AS BYTEA), i.output), failure ="
        " COALESCE(CAST(:failure AS BYTEA), i.failure), custom_status ="
        " COALESCE(CAST(:custom_status AS BYTEA), i.custom_status),"
        " reason = CAST(:reason AS TEXT), crashes = 0, started_at = COALESCE(i.started_at,"
        " me.now), updated_at = me.now, completed_at = CASE WHEN CAST(:is_final AS BOOLEAN) THEN"
        " me.now ELSE i.completed_at END, purge_at = me.now + CAST(:keeps_for AS BIGINT) FROM me,"
        f" {gate} WHERE i.id = me.id RETURNING me.now) SELECT now FROM up"
    )


def _insert(rows: str) -> str:
    """Return the part that inserts activities, whose values come as ``u``.

    Times are relative to the commit's.
    """
    values = ", ".join(
        f"me.now + u.{name}" if name in _RELATIVE else f"u.{name}" for name in COLUMNS
    )
    return (
        "n AS (INSERT INTO durable_outbox (execution, instance, is_delegated, sends,"
        f" {', '.join(COLUMNS)}) SELECT :execution, me.id, FALSE, 0, {values} FROM me, {{gate}},"
        f" {rows} AS u({', '.join(COLUMNS)})), "
    )


def _put_own(gate: str) -> str:
    """Return the part that inserts one message to the instance itself, if it is not there yet."""
    values = ", ".join(f"CAST(:own_{name} AS {type_})" for name, type_ in OWN_COLUMNS.items())
    return (
        f"own AS (INSERT INTO durable_inbox (instance, sends, {', '.join(OWN_COLUMNS)}) SELECT"
        f" me.id, 0, {values} FROM me, {gate} ON CONFLICT DO NOTHING), "
    )


_NONE = ""
_ALWAYS = "(SELECT 1) AS one"
_ONE = _insert(
    "(VALUES (" + ", ".join(f"CAST(:{name} AS {type_})" for name, type_ in COLUMNS.items()) + "))"
)
_MANY = _insert(
    "UNNEST(" + ", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in COLUMNS.items()) + ")"
)
_NOT_EMPTY = (
    "AND NOT EXISTS (SELECT 1 FROM durable_inbox WHERE instance = :id AND visible_at <= {once})"
)
_GONE = (
    "gone AS (DELETE FROM durable_outbox o USING me WHERE o.execution = :execution AND o.command ="
    " :gone_command AND o.attempt = :gone_attempt RETURNING 1), "
)
_TOOK = (
    "took AS (DELETE FROM durable_inbox b USING me WHERE b.id = ANY(CAST(:taken AS BIGINT[]))"
    " RETURNING 1), "
)
#: By how many activities there are (none, one, more), and whether there is a message of its own.
_Forms: TypeAlias = Mapping[tuple[int, bool], Statement]


def _forms(form: Callable[[str, str], Statement], gate: str) -> _Forms:
    activities, own = enumerate((_NONE, _ONE, _MANY)), {False: _NONE, True: _put_own(gate)}
    return {
        (number, has_own): form(part, own[has_own])
        for number, part in activities
        for has_own in own
    }


TURNS_WITH_OUTCOME: Final = _forms(partial(_turn, "gone", _GONE, _NOT_EMPTY), "gone")
# messages are taken before one is put: it may have the key of one that is taken
TURNS_BY_MESSAGE: Final = _forms(
    partial(_turn, _ALWAYS, _TOOK, _NONE), "(SELECT COUNT(*) FROM took) AS taken"
)
LOAD = Statement(
    f"WITH box AS MATERIALIZED ({FIRST_OF_INBOX}) SELECT {INSTANCE.columns}, (SELECT"
    " JSON_AGG(JSON_BUILD_ARRAY(id, kind, execution, command, attempt, name, NULL, facts,"
    " visible_at, wake_at, sends, size) ORDER BY ABS(visible_at), id) FROM box), (SELECT"
    " ARRAY_AGG(payload ORDER BY ABS(visible_at), id) FROM box), (SELECT ARRAY_AGG(h.events ORDER"
    " BY h.sequence) FROM durable_history h WHERE h.instance = i.id AND h.execution = i.execution"
    " AND h.sequence <= i.sequence AND h.sequence > CASE WHEN i.execution = :known_execution THEN"
    " :known_sequence ELSE 0 END), {now} FROM durable_instances i WHERE i.id = :id"
)
_START = (
    f"SELECT {INSTANCE.columns}, {START_COLUMNS}, CASE WHEN o.join_command IS NULL THEN (SELECT"
    " ARRAY_AGG(h.events ORDER BY h.sequence) FROM durable_history h WHERE h.instance = i.id AND"
    " h.execution = i.execution AND h.sequence <= i.sequence AND h.sequence > CASE WHEN"
    " i.execution = :known_execution THEN :known_sequence ELSE 0 END) END FROM {rows} o JOIN"
    " durable_instances i ON i.id = o.instance AND i.execution = o.execution"
)
BEGIN = Statement(
    _START.replace("{rows}", "durable_outbox")
    + " WHERE o.execution = :execution AND o.command = :command AND o.attempt = :attempt AND o.kind"
    " = 'activity'"
)
# the claim does not wait for the disk: should it be lost, so is the machine that it was made for,
# or the body runs once more
TAKE_AND_BEGIN = Statement(
    f"WITH mine AS (UPDATE durable_outbox SET {TAKE} WHERE {MAY_BEGIN} {{unhurried}} RETURNING"
    " durable_outbox.*) " + _START.replace("{rows}", "mine")
)
RECORD = Statement(
    "WITH gone AS (DELETE FROM durable_outbox WHERE execution = :execution AND command = :command"
    " AND attempt = :attempt AND kind = 'activity' RETURNING instance, join_command,"
    " window_command, {now} AS now), put AS (INSERT INTO durable_inbox (instance, dedup, kind,"
    " execution, command, attempt, payload, facts, visible_at, wake_at, check_at, sends) SELECT"
    " instance, :dedup, :kind, :execution, :command, :attempt, CAST(:payload AS BYTEA), CAST(:facts"
    " AS TEXT), -now, CASE WHEN join_command IS NULL OR CAST(:has_failed AS BOOLEAN) THEN now END,"
    " CASE WHEN join_command IS NULL OR CAST(:has_failed AS BOOLEAN) THEN now + :resend_after END,"
    " 0 FROM gone) SELECT instance, join_command FROM gone"
)
START = Statement(
    "WITH i AS (INSERT INTO durable_instances (id, execution, name, version, status, sequence,"
    " input, parent_id, parent_execution, parent_command, parent_attempt, root_id, tags, canvas,"
    " queue, policy, crashes, created_at, updated_at) VALUES (:id, :execution, :name, :version,"
    " 'PENDING', 0, :input, NULL, NULL, NULL, NULL, :root_id, :tags, :canvas, :queue, :policy, 0,"
    " {now}, {now}) ON CONFLICT DO NOTHING RETURNING created_at AS now) INSERT INTO durable_inbox"
    " (instance, dedup, kind, execution, command, attempt, facts, visible_at, wake_at, check_at,"
    " sends) SELECT :id, :dedup, :kind, :execution, 0, 0, CAST(:facts AS TEXT), -now, now, now +"
    " CAST(:check_after AS BIGINT), 0 FROM i"
)


def _start_turn(activities: str, own: str) -> Statement:
    return Statement(
        "WITH me AS (INSERT INTO durable_instances (id, execution, name, version, status,"
        " sequence, input, root_id, tags, canvas, queue, crashes, output, failure, custom_status,"
        " reason, policy, created_at, updated_at, started_at, completed_at, purge_at) SELECT :id,"
        " :execution, :orchestrator, CAST(:version AS TEXT), :status, 1, CAST(:input AS BYTEA),"
        " CAST(:root_id AS TEXT), CAST(:tags AS TEXT), CAST(:canvas AS BYTEA), CAST(:own_queue AS"
        " TEXT), 0, CAST(:output AS BYTEA), CAST(:failure AS BYTEA), CAST(:custom_status AS"
        " BYTEA), CAST(:reason AS TEXT), CAST(:policy AS TEXT), now, now, now, CASE WHEN"
        " CAST(:is_final AS BOOLEAN) THEN now END, now + CAST(:keeps_for AS BIGINT) FROM (SELECT"
        " {now} AS now) AS clock ON CONFLICT DO NOTHING RETURNING id, created_at AS now),"
        f" {activities.format(gate=_ALWAYS)}{own}h AS (INSERT INTO"
        " durable_history (instance, execution, sequence, events) SELECT me.id, :execution, 1,"
        " CAST(:events AS BYTEA) FROM me) SELECT now FROM me"
    )


STARTS_WITH_TURN: Final = _forms(_start_turn, _ALWAYS)
