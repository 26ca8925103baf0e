"""The table of histories: one row of events for each turn of each execution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..engine.records import ReplayPosition
from .runner import Cursor, Runner
from .statements import Statement
from .values import blob, text_of

__all__ = ["append", "insert_whole", "unknown", "whole"]

LOAD_HISTORY = Statement(
    "SELECT h.sequence, h.events FROM durable_history h JOIN durable_instances i ON i.id ="
    " h.instance AND i.execution = h.execution WHERE h.instance = :id AND h.sequence > CASE WHEN"
    " h.execution = :known_execution THEN :known_sequence ELSE 0 END ORDER BY h.sequence"
)
WHOLE_HISTORY = Statement(
    "SELECT events FROM durable_history WHERE instance = :id AND execution = :execution ORDER BY"
    " sequence"
)
INSERT_HISTORY = Statement(
    "INSERT INTO durable_history (instance, execution, sequence, events) VALUES (:id, :execution,"
    " :sequence, :events)"
)
DELETE_HISTORY = Statement(
    "DELETE FROM durable_history WHERE instance = :id AND execution = :execution"
)
CLEAR_HISTORY = Statement("DELETE FROM durable_history WHERE instance = :id")


def append(
    database: Runner, cursor: Cursor, instance_id: str, execution: str, sequence: int, events: str
) -> None:
    """Insert the row of one turn; the key of the table refuses a second one of this sequence."""
    database.run(
        cursor,
        INSERT_HISTORY,
        id=instance_id,
        execution=execution,
        sequence=sequence,
        events=blob(events),
    )


def insert_whole(
    database: Runner, cursor: Cursor, instance_id: str, execution: str, history: Iterable[str]
) -> None:
    """Insert the history that a new instance begins with."""
    rows = [
        {"id": instance_id, "execution": execution, "sequence": number, "events": blob(events)}
        for number, events in enumerate(history, 1)
    ]
    database.run_many(cursor, INSERT_HISTORY, rows)


def unknown(
    database: Runner, cursor: Cursor, instance_id: str, known: ReplayPosition | None
) -> Sequence[Any]:
    """Return the rows beyond what is known of the execution of now; ``texts`` reads them."""
    execution, sequence = known or ("", 0)
    rows: Sequence[Any] = database.run(
        cursor, LOAD_HISTORY, id=instance_id, known_execution=execution, known_sequence=sequence
    ).fetchall()
    return rows


def texts(rows: Iterable[tuple[int, Any]], up_to: int) -> list[str]:
    """Return the events of rows; those of turns that came after the instance was read are left
    out.
    """
    return [text_of(events) or "" for sequence, events in rows if sequence <= up_to]


def whole(database: Runner, cursor: Cursor, instance_id: str, execution: str) -> list[str]:
    """Return the whole history of an execution."""
    rows = database.run(cursor, WHOLE_HISTORY, id=instance_id, execution=execution).fetchall()
    return [text_of(events) or "" for (events,) in rows]
