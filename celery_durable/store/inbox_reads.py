"""What a turn reads of an inbox: a bounded number of rows and bytes, in the order of arrival."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..engine.records import InboxKind, InboxRow
from .runner import Cursor, Runner
from .statements import Statement
from .values import Elsewhere, facts_of, numbers, text_of

__all__ = ["Found", "InboxPart", "inbox_row", "read_part", "whole"]

# a look reads a bounded number of rows and bytes, however much has arrived: what came first, with
# small payloads at once; joins and requests of operators are always read, for there are few of them
LOOK_ROWS = 2_500
LOOK_BYTES = 4_000_000
_SMALL = 2_000
_ALWAYS = (InboxKind.JOIN, InboxKind.REWIND, InboxKind.TERMINATE)
_ALWAYS_READ = f"kind IN ({', '.join(map(repr, _ALWAYS))})"
_LOOKED_AT = (
    f"id, kind, execution, command, attempt, name, CASE WHEN {{octets}}(payload) <= {_SMALL} THEN"
    " payload END AS payload, facts, visible_at, wake_at, sends, {octets}(payload) AS size"
)
FIRST_OF_INBOX = (
    f"SELECT * FROM (SELECT {_LOOKED_AT} FROM durable_inbox WHERE instance = :id AND visible_at <="
    f" {{once}} AND NOT {_ALWAYS_READ} ORDER BY ABS(visible_at), CASE WHEN kind = 'TimerFired' THEN"
    f" 1 ELSE 0 END, id LIMIT {LOOK_ROWS + 1}) first_ones UNION ALL SELECT {_LOOKED_AT} FROM"
    f" durable_inbox WHERE instance = :id AND visible_at <= {{once}} AND {_ALWAYS_READ}"
)
LOAD_INBOX = Statement(FIRST_OF_INBOX)
IS_DUE = Statement(
    "SELECT 1 FROM durable_inbox WHERE instance = :id AND visible_at <= {once} AND wake_at IS NOT"
    " NULL LIMIT 1"
)
HAS_UNTAKEN = Statement(
    "SELECT 1 FROM durable_inbox WHERE instance = :id AND visible_at <= {now} AND kind <> 'Join'"
    " LIMIT 1"
)
HAS_VISIBLE = Statement(
    "SELECT 1 FROM durable_inbox WHERE instance = :id AND visible_at <= {now} LIMIT 1"
)
WHOLE_INBOX = Statement(
    "SELECT id, CASE WHEN name = :name THEN payload END FROM durable_inbox WHERE instance = :id AND"
    " id > :after ORDER BY id LIMIT 500"
)


class Found(NamedTuple):
    """A row as a look finds it: the columns of ``FIRST_OF_INBOX``."""

    id: int
    kind: str
    execution: str | None
    command: int
    attempt: int
    name: str | None
    payload: Any  #: None if there is none, or if it is too large to be brought at once.
    facts: str | None
    visible_at: int  #: Below zero if it was visible when it arrived.
    wake_at: int | None
    sends: int
    size: int | None  #: Of the payload, in bytes.


class InboxPart(NamedTuple):
    """The part of an inbox that one look takes."""

    inbox: list[InboxRow]
    has_more: bool  #: Something came after these.
    is_due: bool  #: Some of that is to wake the instance.


def read_part(
    database: Runner, instance_id: str, found: Sequence[Found], cursor: Cursor | None = None
) -> InboxPart:
    """Return what a look takes of the rows that were found, with the payloads that these did not
    bring.

    These are read on ``cursor``, or in a read of their own.
    """
    chosen, has_more = _within_bounds(found)
    missing = [row.id for row in chosen if row.payload is None and row.size is not None]
    payloads: Mapping[int, Any] = {}
    is_due = False
    if missing or has_more:

        def see(cursor: Cursor) -> tuple[Mapping[int, Any], bool]:
            return _see_more(database, cursor, instance_id, missing, has_more)

        payloads, is_due = see(cursor) if cursor is not None else database.read(see)
    if gone := set(missing) - payloads.keys():  # the instance has moved: another look follows
        chosen = chosen[: next(place for place, row in enumerate(chosen) if row.id in gone)]
        has_more = is_due = True
    inbox = [inbox_row(row, payloads.get(row.id, row.payload)) for row in chosen]
    return InboxPart(inbox, has_more, is_due)


def _see_more(
    database: Runner, cursor: Cursor, instance_id: str, missing: Sequence[int], has_more: bool
) -> tuple[dict[int, Any], bool]:
    """Return large payloads by row, and whether anything is to wake the instance."""
    payloads: dict[int, Any] = {}
    for start in range(0, len(missing), 500):
        rows = numbers(missing[start : start + 500])
        these = Statement(f"SELECT id, payload FROM durable_inbox WHERE id IN ({rows})")
        payloads.update(map(tuple, database.run(cursor, these).fetchall()))
    is_due = has_more and database.run(cursor, IS_DUE, id=instance_id).fetchone() is not None
    return payloads, is_due


def _within_bounds(found: Sequence[Found]) -> tuple[list[Found], bool]:
    """Return the rows of a look in order, those that are within its bounds, and whether there are
    others.
    """
    always = [row for row in found if row.kind in _ALWAYS]
    first = sorted((row for row in found if row.kind not in _ALWAYS), key=_place)
    size = taken = 0
    for row in first[:LOOK_ROWS]:
        size += 100 + (row.payload.size if isinstance(row.payload, Elsewhere) else row.size or 0)
        if taken and size > LOOK_BYTES:
            break
        taken += 1
    chosen = sorted([*always, *first[:taken]], key=lambda row: (abs(row.visible_at), row.id))
    return chosen, taken < len(first)


def _place(row: Found) -> tuple[int, bool, int]:
    return abs(row.visible_at), row.kind == "TimerFired", row.id


def inbox_row(row: Found, payload: Any) -> InboxRow:
    """Build the engine's view of a row that was found."""
    return InboxRow(
        row.id,
        row.kind,
        row.execution,
        row.command,
        row.attempt,
        row.name,
        text_of(payload),
        facts_of(row.facts) if row.facts else None,
        abs(row.visible_at),
        row.wake_at,
        row.sends,
        row.visible_at < 0,
    )


def load(database: Runner, cursor: Cursor, instance_id: str) -> InboxPart:
    """Look at an inbox."""
    rows = database.run(cursor, LOAD_INBOX, id=instance_id).fetchall()
    return read_part(database, instance_id, [Found._make(row) for row in rows], cursor)


def whole(database: Runner, instance_id: str, name: str) -> list[tuple[int, str | None]]:
    """Return all rows of an inbox by number, with the payloads of the events of a name."""
    found: list[tuple[int, str | None]] = []
    after = 0

    def read(cursor: Cursor) -> Sequence[Any]:
        values = {"id": instance_id, "name": name, "after": after}
        rows: Sequence[Any] = database.run(cursor, WHOLE_INBOX, **values).fetchall()
        return rows

    while rows := database.read(read):
        found += [(int(row), text_of(payload)) for row, payload in rows]
        after, _ = found[-1]
    return found
