"""The table of answers: what an orchestration has said to requests, for their askers to read.

A turn writes an answer with its own commit, and it outlives the end of the instance and of its
history. Each process that asks deletes those that are an hour old: where nothing is asked there is
nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.records import UNANSWERED, Answer, Asked
from ..engine.writes import NewAnswer
from .runner import Cursor, Runner
from .statements import Statement
from .values import blob, status_in, text_of

__all__ = ["Answers", "put"]

#: For so many microseconds an answer is kept.
KEPT_FOR = 3_600_000_000
_BATCH = 2_000
_VALUE, _FAILURE, _NONE = 0, 1, 2

# never before the beginning of the instance, by which answers of an earlier one are told apart
INSERT_ANSWER = Statement(
    "INSERT INTO durable_answers (instance, request, outcome, payload, answered_at) SELECT i.id,"
    " :request, CAST(:outcome AS {integer}), CAST(:payload AS {bytes}), CASE WHEN i.created_at >"
    " CAST(:now AS {bigint}) THEN i.created_at ELSE CAST(:now AS {bigint}) END FROM"
    " durable_instances i WHERE i.id = :id {if_new}"
)
# a rewind has another one
CHANGE_ANSWER = Statement(
    "UPDATE durable_answers SET outcome = :outcome, payload = :payload, answered_at = :now WHERE"
    " instance = :id AND request = :request"
)
CLEAR_ANSWERS = Statement("DELETE FROM durable_answers WHERE instance = :id")
LOOK = Statement(
    "SELECT i.status, a.outcome, a.payload FROM durable_instances i LEFT JOIN durable_answers a ON"
    " a.instance = i.id AND a.request = :request AND a.answered_at >= i.created_at AND"
    " a.answered_at > {once} - :kept WHERE i.id = :id"
)
OLD_ANSWERS = Statement(
    "SELECT instance, request FROM durable_answers WHERE answered_at <= {once} - :kept ORDER BY"
    " answered_at LIMIT :limit {skip_locked}"
)
DROP_ANSWER = Statement("DELETE FROM durable_answers WHERE instance = :id AND request = :request")


class Answers:
    """What askers read (``engine.store_ports.Answers``)."""

    def __init__(self, database: Runner) -> None:
        self.database = database

    def read(self, instance_id: str, request: str) -> Asked | None:
        """Tell how a request stands, by its key; None if there is no such instance."""
        row = self.database.fetch_one(LOOK, id=instance_id, request=request, kept=KEPT_FOR)
        if row is None:
            return None
        status, outcome, payload = row
        return Asked(status_in(status), _answer(outcome, text_of(payload)))

    def drop_old(self) -> bool:
        """Delete answers that are an hour old; True if there may be more of them."""
        run = self.database.run

        def drop(cursor: Cursor) -> int:
            old = run(cursor, OLD_ANSWERS, kept=KEPT_FOR, limit=_BATCH).fetchall()
            keys = [{"id": id_, "request": request} for id_, request in sorted(map(tuple, old))]
            self.database.run_many(cursor, DROP_ANSWER, keys)
            return len(keys)

        return self.database.transact(drop) == _BATCH


def _answer(outcome: int | None, payload: str | None) -> Answer | None:
    if outcome is None:
        return None
    return UNANSWERED if outcome == _NONE else Answer(payload, outcome == _FAILURE)


def put(
    database: Runner, cursor: Cursor, instance_id: str, answers: Sequence[NewAnswer], now: int
) -> None:
    """Insert the answers of a turn; what a rewind answers otherwise is changed."""
    for request, (payload, has_failed) in answers:
        values = {
            "id": instance_id,
            "request": request,
            "outcome": _NONE if payload is None else _FAILURE if has_failed else _VALUE,
            "payload": blob(payload),
            "now": now,
        }
        is_new = database.run(cursor, INSERT_ANSWER, **values).rowcount
        if not is_new and payload is not None:  # a copy that is dropped takes no answer away
            database.run(cursor, CHANGE_ANSWER, **values)
