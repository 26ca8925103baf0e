"""The table of schedules: what is due, and moving one on together with the instances that it
starts.

Every change compares ``revision``: of all who read a schedule, one changes it. A transaction takes
the schedule's row first, and locks no instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..core.status import RuntimeStatus
from ..engine.due import DueSchedule, Move, ScheduleRow
from ..engine.writes import NewInbox, NewInstance
from . import audit
from .arrivals import Inbox
from .runner import Cursor, Runner
from .starts import Starts
from .statements import Shape, Statement
from .values import blob, readable, text_of

__all__ = ["Schedules"]

_SHAPE = Shape(ScheduleRow, "s")
_NAMES = _SHAPE.names
_COLUMNS = _SHAPE.columns
_PAYLOADS = ("input", "canvas")
_STAYS = ("name", "created_at", "revision")
GET_SCHEDULE = Statement(f"SELECT {_COLUMNS} FROM durable_schedules s WHERE s.name = :name")
LIST_SCHEDULES = Statement(f"SELECT {_COLUMNS} FROM durable_schedules s ORDER BY s.name")
INSERT_SCHEDULE = Statement(
    f"INSERT INTO durable_schedules ({', '.join(_NAMES)}) VALUES"
    f" ({', '.join(f':{name}' for name in _NAMES)}) {{if_new}}"
)
CHANGE_SCHEDULE = Statement(
    "UPDATE durable_schedules SET"
    f" {', '.join(f'{name} = :{name}' for name in _NAMES if name not in _STAYS)}, revision ="
    " revision + 1 WHERE name = :name AND revision = :revision"
)
DELETE_SCHEDULE = Statement("DELETE FROM durable_schedules WHERE name = :name")
DELETE_UNDECLARED = Statement(
    "DELETE FROM durable_schedules WHERE name = :name AND is_declared = {false}"
)
DECLARED_SCHEDULES = Statement(
    "SELECT name FROM durable_schedules WHERE is_declared = {true} ORDER BY name"
)
DUE_SCHEDULES = Statement(
    f"SELECT {_COLUMNS}, i.status, {{now}} FROM durable_schedules s LEFT JOIN durable_instances i"
    " ON i.id = s.last_id WHERE s.check_at <= {once} ORDER BY s.check_at, s.name LIMIT :limit"
)
ADVANCE_SCHEDULE = Statement(
    "UPDATE durable_schedules SET next_at = :next_at, check_at = :check_at, waiting_at ="
    " :waiting_at, last_at = COALESCE(:last_at, last_at), last_id = COALESCE(:last_id, last_id),"
    " skipped = skipped + :skipped, revision = revision + 1 WHERE name = :name AND revision ="
    " :revision"
)
POSTPONE_SCHEDULE = Statement(
    "UPDATE durable_schedules SET check_at = {now} + :delay, revision = revision + 1 "
    "WHERE name = :name AND revision = :revision"
)


class Schedules:
    """Schedules, and moving one on (``engine.store_ports.Schedules``)."""

    def __init__(self, database: Runner, starts: Starts, inbox: Inbox) -> None:
        self.database = database
        self.starts = starts
        self.inbox = inbox

    def get(self, name: str) -> ScheduleRow | None:
        """Return one schedule, or None."""
        row = self.database.fetch_one(GET_SCHEDULE, name=name)
        return None if row is None else _schedule_row(row)

    def list_all(self) -> list[ScheduleRow]:
        """Return all schedules, by name."""
        rows = self.database.read(
            lambda cursor: self.database.run(cursor, LIST_SCHEDULES).fetchall()
        )
        return [_schedule_row(row) for row in rows]

    def insert(self, row: ScheduleRow) -> bool:
        """Insert a schedule; False if the name is taken."""
        return audit.change_one(self.database, INSERT_SCHEDULE, **_values(row))

    def change(self, row: ScheduleRow) -> bool:
        """Write a schedule whose ``revision`` is the one that it was read at.

        False if it has changed since.
        """
        return audit.change_one(self.database, CHANGE_SCHEDULE, **_values(row))

    def delete(self, name: str) -> bool:
        """Delete a schedule; what it started is left alone."""
        return audit.change_one(self.database, DELETE_SCHEDULE, name=name)

    def delete_undeclared(self, name: str) -> bool:
        """Delete a schedule that no living worker declares; see ``engine.store_ports``."""
        return self.database.change_one(DELETE_UNDECLARED, name=name)

    def declared(self) -> list[str]:
        """Return the names of those that are thought to be declared; see ``engine.store_ports``."""
        rows = self.database.read(
            lambda cursor: self.database.run(cursor, DECLARED_SCHEDULES).fetchall()
        )
        return [name for (name,) in rows]

    def due(self, limit: int) -> list[DueSchedule]:
        """Return schedules whose ``check_at`` has come."""
        rows = self.database.read(
            lambda cursor: self.database.run(cursor, DUE_SCHEDULES, limit=limit).fetchall()
        )
        return [_due_schedule(row) for row in rows]

    def advance(
        self,
        row: ScheduleRow,
        move: Move,
        instances: Sequence[NewInstance],
        request: NewInbox | None,
    ) -> list[NewInstance] | None:
        """Move a schedule on and start instances; see ``engine.store_ports``."""
        values = {
            "name": row.name,
            "revision": row.revision,
            "next_at": move.next_at,
            "check_at": move.check_at,
            "waiting_at": move.waiting_at,
            "skipped": move.skipped,
            "last_at": move.starts[-1] if move.starts else None,
            "last_id": instances[-1].id if instances else None,
        }

        def advance(cursor: Cursor) -> list[NewInstance] | None:
            if not self.database.run(cursor, ADVANCE_SCHEDULE, **values).rowcount:
                return None
            if request is not None:
                self.inbox.put_within(cursor, [request])
            return [new for new in instances if self.starts.insert_within(cursor, new)]

        return self.database.transact(advance)

    def postpone(self, row: ScheduleRow, delay: int) -> bool:
        """Look at a schedule again later; see ``engine.store_ports``."""
        return self.database.change_one(
            POSTPONE_SCHEDULE, name=row.name, revision=row.revision, delay=delay
        )


def _values(row: ScheduleRow) -> dict[str, Any]:
    values = asdict(row)
    values["reason"] = readable(row.reason)
    return values | {name: blob(values[name]) for name in _PAYLOADS}


def _schedule_row(row: Sequence[Any]) -> ScheduleRow:
    values = dict(zip(_NAMES, row, strict=True))
    values["is_paused"] = bool(values["is_paused"])
    if values["is_declared"] is not None:
        values["is_declared"] = bool(values["is_declared"])
    return ScheduleRow(**values | {name: text_of(values[name]) for name in _PAYLOADS})


def _due_schedule(row: Sequence[Any]) -> DueSchedule:
    *columns, status, now = row
    is_running = status is not None and not RuntimeStatus(status).is_terminal
    return DueSchedule(_schedule_row(columns), is_running, now)
