"""The table of instances: one row for each orchestration or entity, with its execution of now.

A transaction locks the row of one instance; it tries, and never waits for it. Who sees another
sequence than the one that was read has been overtaken, and changes nothing.
"""

from __future__ import annotations

from typing import Any

from ..core.status import RuntimeStatus
from ..core.tags import TagChanges
from ..engine.records import InstanceRow
from ..engine.writes import NewInstance, TurnCommit
from . import audit
from .inbox import WILL_BE_REWOUND
from .runner import Cursor, ManyRows, ManyValues, Runner
from .statements import Shape, Statement
from .values import blob, readable, status_in, tags_of, tags_text, text_of

__all__ = [
    "INSTANCE",
    "change_tags",
    "insert",
    "lock_and_change_tags",
    "status_of",
    "update",
    "update_values",
]

INSTANCE = Shape(InstanceRow, "i", {"status": status_in, "input": text_of, "canvas": text_of})
LOAD_INSTANCE = Statement(
    f"SELECT {INSTANCE.columns}, {{now}} FROM durable_instances i WHERE i.id = :id"
)
EXECUTION_OF = Statement("SELECT execution FROM durable_instances WHERE id = :id")

# -- a turn's ------------------------------------------------------------------------------------

GATE = Statement(
    "SELECT status, {now} FROM durable_instances WHERE id = :id AND execution = :execution AND"
    " sequence = :sequence {lock_instance}"
)
UPDATE_INSTANCE = Statement(
    "UPDATE durable_instances SET sequence = sequence + 1, status = COALESCE(:status, status),"
    " output = COALESCE(:output, output), failure = COALESCE(:failure, failure), custom_status ="
    " COALESCE(:custom_status, custom_status), reason = :reason, crashes = 0, started_at ="
    " COALESCE(started_at, :started_at), completed_at = COALESCE(:completed_at, completed_at),"
    " purge_at = :purge_at, updated_at = :now WHERE id = :id"
)
RENEW_INSTANCE = Statement(
    "UPDATE durable_instances SET execution = :execution, sequence = 0, input = :input, version ="
    " :version, updated_at"
    " = :now WHERE id = :id"
)
REOPEN_INSTANCE = Statement(
    "UPDATE durable_instances SET output = NULL, failure = NULL, completed_at = NULL WHERE id = :id"
)
CHOOSE_VERSION = Statement(
    "UPDATE durable_instances SET version = :version WHERE id = :id AND execution = :execution AND"
    " version = :old"
)
NOTE_WAITING = Statement(
    "UPDATE durable_instances SET reason = :wait WHERE id = :id AND status IN ('PENDING',"
    " 'RUNNING') AND (reason IS NULL OR reason <> :wait)"
)
CRASHED = Statement(
    "UPDATE durable_instances SET crashes = crashes + :by WHERE id = :id AND crashes + :by >= 0"
)
CRASHES = Statement("SELECT crashes FROM durable_instances WHERE id = :id")

# -- beginning and replacing ---------------------------------------------------------------------

INSERT_INSTANCE = Statement(
    "INSERT INTO durable_instances (id, execution, name, version, status, sequence, input,"
    " parent_id, parent_execution, parent_command, parent_attempt, root_id, tags, canvas, queue,"
    " policy, crashes, created_at, updated_at) VALUES (:id, :execution, :name, :version, 'PENDING',"
    " 0, :input, :parent_id, :parent_execution, :parent_command, :parent_attempt, :root_id, :tags,"
    " :canvas, :queue, :policy, 0, {now}, {now}) {if_new}"
)
INSERT_MANY = ManyValues(INSERT_INSTANCE)
# within a transaction that may be open for long, where these have no numbers (``upkeep``)
INSERT_MANY_LISTED = ManyValues(
    Statement(
        INSERT_INSTANCE.sql.replace(
            "created_at, updated_at)", "is_lasting, created_at, updated_at)"
        ).replace("0, {now}, {now})", "0, {true}, {now}, {now})")
    )
)
WHO_HAS = ManyRows("SELECT id, execution, name, input FROM durable_instances WHERE {these}", "id")
BEGIN_FORK = Statement(
    "UPDATE durable_instances SET status = 'RUNNING', sequence = :sequence, started_at = created_at"
    " WHERE id = :id"
)
LOCK_INSTANCE = Statement(
    "SELECT execution, policy, {now} FROM durable_instances WHERE id = :id {lock_instance}"
)
DELETE_INSTANCE = Statement("DELETE FROM durable_instances WHERE id = :id")
DELETE_ENDED = Statement(
    "DELETE FROM durable_instances WHERE id = :id AND status IN ('COMPLETED', 'FAILED', 'CANCELED',"
    " 'TERMINATED')"
)
TRY_INSTANCE = Statement(
    "SELECT 1 FROM durable_instances WHERE id = :id AND execution = :execution {lock_instance}"
)
TAGS_OF = Statement("SELECT tags FROM durable_instances WHERE id = :id")
LOCK_TAGS = Statement(f"{TAGS_OF.sql} {{lock_instance}}")
SET_TAGS = Statement("UPDATE durable_instances SET tags = :tags, updated_at = {now} WHERE id = :id")
CHANGE_INPUT = Statement(
    "UPDATE durable_instances SET input = :input, updated_at = :now WHERE id = :id"
)

# -- families ------------------------------------------------------------------------------------

END_OF = Statement(
    "SELECT status, output, failure, reason, parent_id, parent_execution FROM durable_instances"
    " WHERE id = :id"
)
ASK_CHILD = Statement(f"{END_OF.sql} {{lock_instance}}")
KEEP_CHILD = Statement("UPDATE durable_instances SET purge_at = NULL WHERE id = :id")
OPEN_CHILDREN = Statement(
    "SELECT i.id FROM durable_instances i WHERE i.parent_id = :id "
    f"AND (i.status IN ('PENDING', 'RUNNING', 'SUSPENDED') OR ({WILL_BE_REWOUND})) ORDER BY i.id"
)
# an instance, whether it is asked to end, and which life of its parent is there now
LINEAGE_OF = Statement(
    "SELECT i.status, i.root_id, i.parent_id, i.parent_execution, p.execution, "
    "(SELECT COUNT(*) FROM durable_inbox m WHERE m.instance = i.id AND m.dedup = 'terminate') "
    "FROM durable_instances i LEFT JOIN durable_instances p ON p.id = i.parent_id WHERE i.id = :id"
)

# -- purging -------------------------------------------------------------------------------------

_IS_OVER = "status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED')"
_HAS_CHILDREN = (
    f"EXISTS (SELECT 1 FROM durable_instances c WHERE c.parent_id = i.id AND c.{_IS_OVER})"
)
_IS_DUE = f"i.purge_at <= {{once}} AND i.{_IS_OVER}"
PURGE_INSTANCE = Statement(
    "DELETE FROM durable_instances WHERE id = :id AND execution = :execution "
    "AND status IN ('COMPLETED', 'FAILED', 'CANCELED', 'TERMINATED')"
)
DUE_PURGES = Statement(
    f"SELECT i.id, i.execution FROM durable_instances i WHERE {_IS_DUE} AND NOT {_HAS_CHILDREN} AND"
    " NOT EXISTS (SELECT 1 FROM durable_outbox o WHERE o.execution = i.execution) AND (SELECT"
    " MAX(b.id) FROM durable_inbox b WHERE b.instance = i.id AND b.kind = 'RewindRequested') IS"
    " NULL ORDER BY i.purge_at, i.id LIMIT :limit {skip_locked}"
)
# without a lock: who archives one claims it, and compares before it deletes
DUE_ARCHIVES = Statement(
    DUE_PURGES.sql.replace("i.execution FROM", "i.execution, i.sequence, i.purge_at FROM").replace(
        " {skip_locked}", ""
    )
)
CLAIM_END = Statement(
    "UPDATE durable_instances SET purge_at = {now} + :lease WHERE id = :id AND execution ="
    " :execution AND sequence = :sequence AND purge_at = :purge_at"
)
POSTPONE_PURGE = Statement(
    "UPDATE durable_instances SET purge_at = {now} + :delay WHERE id = :id AND execution ="
    " :execution AND sequence = :sequence AND status IN ('COMPLETED', 'FAILED', 'CANCELED',"
    " 'TERMINATED')"
)
LOCK_END = Statement(
    "SELECT 1 FROM durable_instances WHERE id = :id AND execution = :execution AND sequence ="
    " :sequence {lock}"
)
# under this no parent that is rewound asks it
LOCK_EXECUTION = Statement(
    "SELECT 1 FROM durable_instances WHERE id = :id AND execution = :execution {lock}"
)
DUE_PARENTS = Statement(
    f"SELECT i.id FROM durable_instances i WHERE {_IS_DUE} AND {_HAS_CHILDREN} ORDER BY i.purge_at,"
    " i.id LIMIT :limit"
)
PURGE_CHILDREN = Statement(
    "UPDATE durable_instances SET purge_at = {now} "
    f"WHERE parent_id = :id AND {_IS_OVER} AND (purge_at IS NULL OR purge_at > {{now}})"
)
CLEAN_ENTITY = Statement(
    "DELETE FROM durable_instances WHERE id = :id AND execution = :execution AND sequence = 0 AND"
    " status = 'RUNNING' AND NOT EXISTS (SELECT 1 FROM durable_inbox b WHERE b.instance = :id AND"
    " b.kind <> 'ExecutionStarted')"
)


def insert(database: Runner, cursor: Cursor, new: NewInstance) -> bool:
    """Insert the row of a new instance; False if its id is taken."""
    return bool(database.run(cursor, INSERT_INSTANCE, **insert_values(new)).rowcount)


def insert_values(new: NewInstance) -> dict[str, Any]:
    """Return the parameters of ``INSERT_INSTANCE``."""
    return {
        "id": new.id,
        "execution": new.execution,
        "name": new.name,
        "version": new.version,
        "input": blob(new.input),
        "parent_id": new.parent_id,
        "parent_execution": new.parent_execution,
        "parent_command": new.parent_command,
        "parent_attempt": new.parent_attempt,
        "root_id": new.root_id,
        "tags": tags_text(new.tags),
        "canvas": blob(new.canvas),
        "queue": new.queue,
        "policy": new.policy,
    }


def update(database: Runner, cursor: Cursor, commit: TurnCommit, now: int) -> None:
    """Move an instance to the next sequence, with what the turn says of it."""
    is_ended = commit.status is not None and commit.status.is_terminal
    database.run(
        cursor,
        UPDATE_INSTANCE,
        **update_values(commit),
        now=now,
        started_at=None if commit.ends_unbegun else now,
        completed_at=now if is_ended else None,
        purge_at=None if commit.keeps_for is None else now + commit.keeps_for,
    )


def update_values(commit: TurnCommit) -> dict[str, Any]:
    """Return the parameters by which a commit changes its instance."""
    return {
        "id": commit.instance_id,
        "status": None if commit.status is None else str(commit.status),
        "output": blob(commit.output),
        "failure": blob(commit.failure),
        "custom_status": blob(commit.custom_status),
        "reason": readable(commit.reason),
    }


def change_tags(database: Runner, cursor: Cursor, instance_id: str, changes: TagChanges) -> None:
    """Set and remove tags of an instance whose row is locked."""
    row = database.run(cursor, TAGS_OF, id=instance_id).fetchone()
    _write_tags(database, cursor, instance_id, row, changes)


def lock_and_change_tags(
    database: Runner, cursor: Cursor, instance_id: str, changes: TagChanges
) -> bool:
    """Do the same for one whose row is not locked; False if it is gone, or another transaction
    holds it.
    """
    row = database.run(cursor, LOCK_TAGS, id=instance_id).fetchone()
    if row is None:
        return False
    if _write_tags(database, cursor, instance_id, row, changes):
        audit.leave(database, cursor)
    return True


def _write_tags(
    database: Runner, cursor: Cursor, instance_id: str, row: Any, changes: TagChanges
) -> bool:
    (text,) = row
    old = tags_of(text or "")
    new = {name: value for name, value in {**old, **changes}.items() if value is not None}
    if new != old:
        database.run(cursor, SET_TAGS, id=instance_id, tags=tags_text(new))
    return new != old


def status_of(database: Runner, cursor: Cursor, instance_id: str) -> RuntimeStatus | None:
    """Return the status of an instance as a transaction sees it."""
    row = database.run(cursor, END_OF, id=instance_id).fetchone()
    if row is None:
        return None
    status, *_ = row
    return status_in(status)
