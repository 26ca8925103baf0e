"""The hot path on PostgreSQL: what a step needs in one round trip each. The meaning is that of ``turns``, to the letter.

The turn statement locks the instance if it still is where the turn saw it, takes the outcome or the messages, and writes
history, activities and instance from what it took: a loser writes nothing. It serves commits that touch nothing
else; any other commit goes the long way.
"""

from __future__ import annotations

import json
from typing import Any

from ..core.status import RuntimeStatus
from ..engine.records import (
    ActivityStart,
    ActivityTicket,
    Committed,
    Known,
    NewInstance,
    Outcome,
    Recorded,
    Snapshot,
    TurnCommit,
)
from .database import Cursor, Statement
from .queries import Store
from .turns import (
    INSTANCE_COLUMNS,
    INSTANCE_WIDTH,
    activity_start,
    activity_values,
    blob,
    inbox_row,
    inbox_values,
    instance_row,
    outcome_message,
    start_message,
    tags_text,
    update_values,
)

__all__ = ["PostgresStore"]

_MOVING = (RuntimeStatus.PENDING, RuntimeStatus.RUNNING)
_COLUMNS = {
    "command": "INTEGER", "attempt": "INTEGER", "kind": "TEXT", "name": "TEXT", "message": "BYTEA", "queue": "TEXT",
    "join_command": "INTEGER", "window_command": "INTEGER", "is_held": "BOOLEAN", "sent_at": "BIGINT", "check_at": "BIGINT",
    "deadline_at": "BIGINT", "start_by": "BIGINT", "beat_timeout": "BIGINT",
}  # fmt: skip
_RELATIVE = ("sent_at", "check_at", "deadline_at", "start_by")


def _turn(gate: str, takes: str, empty: str, activities: str) -> Statement:
    return Statement(
        "WITH me AS (SELECT id, {now} AS now FROM durable_instances WHERE id = :id AND execution = :execution "
        f"AND sequence = :sequence AND status IN ('PENDING', 'RUNNING') {empty} {{lock_instance}}), "
        f"{takes}"
        "h AS (INSERT INTO durable_history (instance, execution, sequence, events) "
        f"SELECT me.id, :execution, :sequence + 1, CAST(:events AS BYTEA) FROM me, {gate}), "
        f"{activities.format(gate=gate)}"
        "up AS (UPDATE durable_instances i SET sequence = i.sequence + 1, status = COALESCE(:status, i.status), "
        "output = COALESCE(CAST(:output AS BYTEA), i.output), failure = COALESCE(CAST(:failure AS BYTEA), i.failure), "
        "custom_status = COALESCE(CAST(:custom_status AS BYTEA), i.custom_status), reason = CAST(:reason AS TEXT), crashes = 0, "
        "started_at = COALESCE(i.started_at, me.now), updated_at = me.now, "
        "completed_at = CASE WHEN CAST(:is_final AS BOOLEAN) THEN me.now ELSE i.completed_at END, "
        "purge_at = me.now + CAST(:keeps_for AS BIGINT) "
        f"FROM me, {gate} WHERE i.id = me.id RETURNING me.now) SELECT now FROM up"
    )


def _insert(rows: str) -> str:
    """Return the part that inserts activities, whose values come as ``u``; times are relative to the commit's."""
    values = ", ".join(f"me.now + u.{name}" if name in _RELATIVE else f"u.{name}" for name in _COLUMNS)
    return (
        f"n AS (INSERT INTO durable_outbox (execution, instance, is_delegated, sends, {', '.join(_COLUMNS)}) "
        f"SELECT :execution, me.id, FALSE, 0, {values} FROM me, {{gate}}, {rows} AS u({', '.join(_COLUMNS)})), "
    )


_NONE = ""
_ONE = _insert("(VALUES (" + ", ".join(f"CAST(:{name} AS {type_})" for name, type_ in _COLUMNS.items()) + "))")
_MANY = _insert("UNNEST(" + ", ".join(f"CAST(:{name} AS {type_}[])" for name, type_ in _COLUMNS.items()) + ")")
_NOT_EMPTY = "AND NOT EXISTS (SELECT 1 FROM durable_inbox WHERE instance = :id AND visible_at <= {once})"
_GONE = (
    "gone AS (DELETE FROM durable_outbox o USING me WHERE o.execution = :execution AND o.command = :gone_command "
    "AND o.attempt = :gone_attempt RETURNING 1), "
)
_TOOK = "took AS (DELETE FROM durable_inbox b USING me WHERE b.id = ANY(CAST(:taken AS BIGINT[]))), "
TURNS_WITH_OUTCOME = [_turn("gone", _GONE, _NOT_EMPTY, part) for part in (_NONE, _ONE, _MANY)]
TURNS_BY_MESSAGE = [_turn("(SELECT 1) AS one", _TOOK, "", part) for part in (_NONE, _ONE, _MANY)]

LOAD = Statement(
    "WITH box AS MATERIALIZED (SELECT id, kind, execution, command, attempt, name, payload, facts, visible_at, wake_at, "
    "sends FROM durable_inbox WHERE instance = :id AND visible_at <= {once}) "
    f"SELECT {INSTANCE_COLUMNS}, (SELECT JSON_AGG(JSON_BUILD_ARRAY(id, kind, execution, command, attempt, name, NULL, facts, "
    "visible_at, wake_at, sends) ORDER BY visible_at, id) FROM box), "
    "(SELECT ARRAY_AGG(payload ORDER BY visible_at, id) FROM box), "
    "(SELECT ARRAY_AGG(h.events ORDER BY h.sequence) FROM durable_history h WHERE h.instance = i.id "
    "AND h.execution = i.execution AND h.sequence <= i.sequence "
    "AND h.sequence > CASE WHEN i.execution = :known_execution THEN :known_sequence ELSE 0 END), {now} "
    "FROM durable_instances i WHERE i.id = :id"
)
BEGIN = Statement(
    f"SELECT {INSTANCE_COLUMNS}, o.join_command, o.window_command, o.holder, o.sends, o.start_by, o.beat_timeout, o.details, "
    "o.deadline_at, o.sent_at, {now}, CASE WHEN o.join_command IS NULL THEN (SELECT ARRAY_AGG(h.events ORDER BY h.sequence) "
    "FROM durable_history h WHERE h.instance = i.id AND h.execution = i.execution AND h.sequence <= i.sequence "
    "AND h.sequence > CASE WHEN i.execution = :known_execution THEN :known_sequence ELSE 0 END) END "
    "FROM durable_outbox o JOIN durable_instances i ON i.id = o.instance AND i.execution = o.execution "
    "WHERE o.execution = :execution AND o.command = :command AND o.attempt = :attempt AND o.kind = 'activity'"
)
RECORD = Statement(
    "WITH gone AS (DELETE FROM durable_outbox WHERE execution = :execution AND command = :command AND attempt = :attempt "
    "AND kind = 'activity' RETURNING instance, join_command, window_command, {now} AS now), "
    "put AS (INSERT INTO durable_inbox (instance, dedup, kind, execution, command, attempt, payload, facts, visible_at, wake_at, "
    "check_at, sends) SELECT instance, :dedup, :kind, :execution, :command, :attempt, CAST(:payload AS BYTEA), "
    "CAST(:facts AS TEXT), now, "
    "CASE WHEN join_command IS NULL OR CAST(:has_failed AS BOOLEAN) THEN now END, "
    "CASE WHEN join_command IS NULL OR CAST(:has_failed AS BOOLEAN) THEN now + :resend_after END, 0 FROM gone) "
    "SELECT instance, join_command FROM gone"
)
START = Statement(
    "WITH i AS (INSERT INTO durable_instances (id, execution, name, version, status, sequence, input, parent_id, "
    "parent_execution, parent_command, parent_attempt, root_id, tags, canvas, queue, policy, crashes, created_at, updated_at) "
    "VALUES (:id, :execution, :name, :version, 'PENDING', 0, :input, NULL, NULL, NULL, NULL, :root_id, :tags, :canvas, :queue, "
    ":policy, 0, {now}, {now}) ON CONFLICT DO NOTHING RETURNING created_at AS now) "
    "INSERT INTO durable_inbox (instance, dedup, kind, execution, command, attempt, facts, visible_at, wake_at, check_at, sends) "
    "SELECT :id, :dedup, :kind, :execution, 0, 0, CAST(:facts AS TEXT), now, now, now + CAST(:check_after AS BIGINT), 0 FROM i"
)


def _start_turn(activities: str) -> Statement:
    return Statement(
        "WITH me AS (INSERT INTO durable_instances (id, execution, name, version, status, sequence, input, root_id, tags, "
        "canvas, queue, crashes, output, failure, custom_status, reason, policy, created_at, updated_at, started_at, "
        "completed_at, purge_at) "
        "SELECT :id, :execution, :orchestrator, CAST(:version AS TEXT), :status, 1, CAST(:input AS BYTEA), "
        "CAST(:root_id AS TEXT), CAST(:tags AS TEXT), CAST(:canvas AS BYTEA), CAST(:own_queue AS TEXT), 0, "
        "CAST(:output AS BYTEA), CAST(:failure AS BYTEA), CAST(:custom_status AS BYTEA), CAST(:reason AS TEXT), "
        "CAST(:policy AS TEXT), now, now, now, CASE WHEN CAST(:is_final AS BOOLEAN) THEN now END, "
        "now + CAST(:keeps_for AS BIGINT) FROM (SELECT {now} AS now) AS clock "
        "ON CONFLICT DO NOTHING RETURNING id, created_at AS now), "
        f"{activities.format(gate='(SELECT 1) AS one')}"
        "h AS (INSERT INTO durable_history (instance, execution, sequence, events) "
        "SELECT me.id, :execution, 1, CAST(:events AS BYTEA) FROM me) SELECT now FROM me"
    )


STARTS_WITH_TURN = [_start_turn(part) for part in (_NONE, _ONE, _MANY)]


class PostgresStore(Store):
    """The store on PostgreSQL; ``uses_fast_path`` can be turned off to compare the two ways."""

    uses_fast_path = True

    def insert_instance(self, instance: NewInstance) -> bool:
        """Insert an orchestration with its start message; see ``TurnStore``."""
        if not self._starts_fast(instance):
            return super().insert_instance(instance)
        if self.database.read(lambda cursor: self._start(cursor, instance)):
            return True
        return self.is_ours(instance)

    def start_turn(self, instance: NewInstance, commit: TurnCommit) -> Committed | None:
        """Insert an orchestration together with its first turn in one statement; see ``TurnStore``."""
        if not (self._starts_fast(instance) and commit.is_simple):
            return super().start_turn(instance, commit)
        statement = STARTS_WITH_TURN[min(len(commit.activities), 2)]
        row = self.database.fetch_one(
            statement, **self._turn_parameters(commit), orchestrator=instance.name, version=instance.version,
            input=blob(instance.input), root_id=instance.root_id, tags=tags_text(instance.tags),
            canvas=blob(instance.canvas), own_queue=instance.queue, policy=instance.policy,
        )  # fmt: skip
        return self.repeated_start(instance, commit) if row is None else Committed(row[0])

    def _starts_fast(self, new: NewInstance) -> bool:
        is_plain = new.parent_id is None and new.start_at is None and new.admission is None and not new.rests
        return self.uses_fast_path and is_plain

    def load(self, instance_id: str, known: Known | None) -> Snapshot | None:
        """Look at an instance, its inbox and the unknown history in one read; see ``TurnStore``."""
        if not self.uses_fast_path:
            return super().load(instance_id, known)
        known_execution, known_sequence = known or ("", 0)
        row = self.database.fetch_one(
            LOAD, id=instance_id, known_execution=known_execution, known_sequence=known_sequence
        )
        if row is None:
            return None
        messages, payloads, events, now = row[INSTANCE_WIDTH:]
        inbox = [
            inbox_row([*message[:6], payload, *message[7:]])
            for message, payload in zip(messages or (), payloads or (), strict=True)
        ]
        return Snapshot(instance_row(row), [each.decode("utf-8", "replace") for each in events or ()], inbox, now)

    def begin_activity(self, ticket: ActivityTicket, known: Known | None) -> ActivityStart | None:
        """Look at an activity, its instance and the unknown history in one read; see ``TurnStore``."""
        if not self.uses_fast_path:
            return super().begin_activity(ticket, known)
        known_execution, known_sequence = known or ("", 0)
        row = self.database.fetch_one(
            BEGIN, **ticket._asdict(), known_execution=known_execution, known_sequence=known_sequence
        )
        if row is None:
            return None
        history = [each.decode("utf-8", "replace") for each in row[-1] or ()]
        return activity_start(instance_row(row), history, row[INSTANCE_WIDTH:-1], self.resend_after)

    def commit_turn(self, commit: TurnCommit) -> Committed | None:
        """Commit a turn in one statement where that is enough; see ``TurnStore``."""
        is_fast = self.uses_fast_path and commit.is_simple and commit.events is not None and commit.statuses == _MOVING
        if not is_fast or (commit.outcome is not None and (commit.taken or not commit.requires_empty_inbox)):
            return super().commit_turn(commit)
        parameters = self._turn_parameters(commit)
        statements = TURNS_BY_MESSAGE if commit.outcome is None else TURNS_WITH_OUTCOME
        statement = statements[min(len(commit.activities), 2)]
        row = self.database.fetch_one(statement, **parameters)
        return None if row is None else Committed(row[0])

    def _turn_parameters(self, commit: TurnCommit) -> dict[str, Any]:
        rows = [activity_values(new, "", "", 0, self.resend_after) for new in commit.activities]
        parameters: dict[str, Any] = {}
        if len(rows) == 1:
            parameters = {name: rows[0][name] for name in _COLUMNS}
        elif rows:
            parameters = {name: [row[name] for row in rows] for name in _COLUMNS}
        parameters.update(update_values(commit))
        parameters.update(
            execution=commit.execution, sequence=commit.sequence, events=blob(commit.events),
            is_final=commit.status is not None and commit.status.is_terminal, keeps_for=commit.keeps_for,
        )  # fmt: skip
        if commit.outcome is None:
            parameters["taken"] = commit.taken
        else:
            parameters.update(gone_command=commit.outcome.command, gone_attempt=commit.outcome.attempt)
        return parameters

    def record_outcome(self, outcome: Outcome, *, release: bool = True) -> Recorded | None:
        """Record an outcome in one statement where no slot is to be released; see ``TurnStore``."""
        if release or not self.uses_fast_path:
            return super().record_outcome(outcome, release=release)
        message = inbox_values(outcome_message(outcome, "", True, self.resend_after), 0)
        row = self.database.fetch_one(
            RECORD, **outcome.ticket._asdict(), dedup=message["dedup"], kind=message["kind"], payload=message["payload"],
            facts=message["facts"], has_failed=outcome.has_failed, resend_after=self.resend_after,
        )  # fmt: skip
        if row is None:
            return None
        return Recorded(row[0], row[1], row[1] is None or outcome.has_failed)

    def _start(self, cursor: Cursor, new: NewInstance) -> bool:
        message = start_message(new)
        return bool(
            self.database.run(
                cursor, START, id=new.id, execution=new.execution, name=new.name, version=new.version,
                input=blob(new.input), root_id=new.root_id, tags=tags_text(new.tags), canvas=blob(new.canvas), queue=new.queue,
                dedup=message.dedup, kind=message.kind, check_after=new.check_after, policy=new.policy,
                facts=json.dumps(message.facts) if message.facts else None,
            ).rowcount == 1
        )  # fmt: skip
